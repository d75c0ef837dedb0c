"""Puts the rows of time_to_table.py beside what is asked of them."""

from collections.abc import Callable

TABLE, FIXED, GATE = 0.97, 0.3, 2.5  # ratio; seconds of CPU time
FLOAT, INT8 = 2, 6  # times as fast as a peer
COLUMNS = {
    "goal": "goal",
    "asked": "asked",
    "before": "before:.3g",
    "now": "now:.3g",
    "of rounds": "range",
    "before over now": "gain:.3g",
    "ceiling": "ceiling:.3g",
    "met in every round": "met",
}


def goal_rows(rows: list[dict], peers: list[str], net: str) -> list[dict]:
    """One row for each goal that something was measured of.

    Args:
        rows: As `part_rows` of time_to_table.py gives them.
        peers: Their names.
        net: What stands before a name where the net alone was measured.
    """
    found = {(row["part"], row["model"], row["what"]): row for row in rows}
    goals: list[dict] = []
    for part, model in dict.fromkeys((row["part"], row["model"]) for row in rows):

        def at(what: str, part: str = part, model: str = model) -> dict:
            return found.get((part, model, what), {})

        if part == "table":
            goals += table_goals(model, at)
        elif part == "gate":
            asked = (f"stored gate run, {model}: CPU s", "cpu_s", GATE)
            goals.append(least(*asked, at("before"), at("now")))
        else:
            measured = [row["what"] for row in rows if row["part"] == part and "s" in row]
            files = [w for w in measured if w not in peers and not w.startswith(net)]
            for peer in peers:
                for file in files:
                    most = INT8 if "int8" in file else FLOAT
                    own, ceiling = at(f"{peer} over {file}"), at(f"{net}{peer} over {net}{file}")
                    row = greatest(f"{peer} over {file}, time of the crops", most, {}, own)
                    goals.append({**row, "ceiling": ceiling.get("ratio")})
    return [goal for goal in goals if goal["now"] is not None]


def table_goals(model: str, at: Callable[[str], dict]) -> list[dict]:
    """Those of one model's table; `at` finds a row by its `what`."""
    photos = f"{at('now').get('images', 0):.0f} photos to their table, {model}"
    ratio = greatest(
        f"{photos}: the bound over it", TABLE, at("bound over before"), at("bound over now")
    )
    ratio |= {"gain": at("before over now").get("ratio"), "ceiling": at("ceiling").get("ratio")}
    fixed = f"a run, {model}: CPU s beyond imports, loading, decoding and the net's calls"
    return [ratio, least(fixed, "cpu_s", FIXED, at("fixed CPU, before"), at("fixed CPU, now"))]


def greatest(goal: str, asked: float, before: dict, now: dict) -> dict:
    """A goal for a ratio that is to be at least so large."""
    met = now.get("ratio_low", 0) >= asked
    return _row(goal, f"{asked:g} or more", "ratio", before, now, met)


def least(goal: str, unit: str, asked: float, before: dict, now: dict) -> dict:
    """A goal for seconds that are to be at most so many."""
    met = now.get(f"{unit}_high", float("inf")) <= asked
    row = _row(goal, f"{asked:g} or less", unit, before, now, met)
    if row["before"] is not None and row["now"]:
        row["gain"] = row["before"] / row["now"]
    return row


def _row(goal: str, asked: str, unit: str, before: dict, now: dict, met: bool) -> dict:
    return {
        "goal": goal,
        "asked": asked,
        "before": before.get(unit),
        "now": now.get(unit),
        "range": now.get(f"{unit}_range", ""),
        "met": "yes" if met else "no",
    }
