"""Tables for people: made of columns, and written in Markdown."""

from bench.report.tables import Texts, markdown, markdown_table


def test_two_columns_may_have_the_same_head():
    columns = [("net", ["A", "D"]), ("95 %", ["1-2", "3-4"]), ("95 %", ["5-6", "7-8"])]
    texts = Texts.of_columns("Nets", columns, best=1)
    assert texts.heads == ["net", "95 %", "95 %"]
    assert texts.rows == [["A", "1-2", "5-6"], ["D", "3-4", "7-8"]]
    assert markdown(texts).splitlines()[-1] == "| **D** | **3-4** | **7-8** |"


def test_columns_without_a_figure_are_left_out():
    columns = [("net", ["A", "D"]), ("p", ["-", "-"]), ("S", ["", ""]), ("ms", ["-", "3"])]
    texts = Texts.of_columns("Nets", columns, best=0).without_empty_columns()
    assert (texts.heads, texts.best) == (["net", "ms"], 0)
    assert texts.rows == [["A", "-"], ["D", "3"]]


def test_bars_in_cells_do_not_end_them():
    assert markdown_table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |\n"


def test_the_best_row_is_bold_and_its_empty_cells_stay_empty():
    texts = Texts("T", ["a", "b"], [["1", ""], ["2", "3"]], best=0)
    assert markdown(texts) == "## T\n\n| a | b |\n| --- | --- |\n| **1** |  |\n| 2 | 3 |\n"
    assert texts.rows[0] == ["1", ""]  # the table itself is unchanged
