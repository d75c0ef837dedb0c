"""Class lists. The oracle is the text written into each file: every class whole, or a refusal."""

import json

import numpy as np
import pytest

from vgg_deploy.errors import InputError, hints
from vgg_deploy.net.class_lists import ClassList, read_class_list
from vgg_deploy.net.class_matching import match_classes, with_classes
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.net.unstated import Unstated

IMAGENETTE = ("tench", "English springer", "cassette player", "chain saw", "church", "French horn")
IMAGENETTE += ("garbage truck", "gas pump", "golf ball", "parachute")


def read(tmp_path, text: str | bytes, name: str = "list.txt") -> ClassList:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_class_list(path)


def refused(tmp_path, text: str | bytes, name: str = "list.txt") -> str:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text, name)
    message = caught.value.message
    assert caught.value.exit_code == 2 and message.startswith(str(tmp_path / name))
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(IMAGENETTE),
        "\n".join(IMAGENETTE) + "\n\n  \n",
        "\r\n".join(IMAGENETTE) + "\r\n",
        "\r".join(IMAGENETTE),
        "\ufeff" + "\n".join(IMAGENETTE),
        "\n".join(f"\t {name}  " for name in IMAGENETTE),
        json.dumps(IMAGENETTE),
        json.dumps(dict(enumerate(IMAGENETTE))),
        json.dumps({str(i): IMAGENETTE[i] for i in (3, 1, 0, 2, 9, 8, 7, 6, 5, 4)}),
        json.dumps({name: i for i, name in reversed(list(enumerate(IMAGENETTE)))}),
        "\ufeff" + json.dumps({name: i for i, name in enumerate(IMAGENETTE)}, indent=1),
    ],
)
@pytest.mark.parametrize("name", ["list.txt", "list.json", "list"])
def test_the_same_names_in_every_form(tmp_path, text, name):
    if name == "list.json" and text.lstrip("\ufeff")[:1] not in ("[", "{"):
        assert "is not JSON" in refused(tmp_path, text, name)
        return
    assert read(tmp_path, text, name) == (IMAGENETTE, IMAGENETTE)


@pytest.mark.parametrize(
    "lines",
    [
        ("gas pump", "gas mask"),
        ("great white shark", "great grey owl"),
        ("tench, Tinca tinca", "goldfish, Carassius auratus"),
        ("n01440764 tench", "cat"),  # not every line begins with a wnid
        ("n01440764", "cat"),
        ("n0144076", "n0210204"),  # 7 digits
        ("n02085620-Chihuahua", "n02085782-Japanese_spaniel"),  # folders of Stanford Dogs
        ("grade 1", "grade 2", "grade 3"),
        ("class_0", "class_1"),
        ("1", "2", "10"),
        ("Grüner Veltliner", "北京", "d'Artagnan", 'the "other" one'),
        ("3 of hearts", "7 of spades"),
    ],
)
def test_whole_lines_are_ids_and_names(tmp_path, lines):
    assert read(tmp_path, "\n".join(lines)) == (lines, lines)


@pytest.mark.parametrize("between", [" ", "\t", ",", ", ", "  ", ": "])
def test_wnids_are_ids_where_every_line_begins_with_one(tmp_path, between):
    text = f"n01440764{between}tench, Tinca tinca\nn02102040{between}English springer\n"
    assert read(tmp_path, text) == (("n01440764", "n02102040"), ("tench", "English springer"))
    bare = ("n02102040", "n01440764")
    assert read(tmp_path, "\n".join(bare)) == (bare, bare)


def test_names_may_repeat_where_ids_differ(tmp_path):
    """ILSVRC has two cranes."""
    found = read(tmp_path, "n02012849 crane, bird\nn03126707 crane\n")
    assert found == (("n02012849", "n03126707"), ("crane", "crane"))
    keras = json.dumps({"1": ["n03126707", "crane"], "0": ["n02012849", "crane"]})
    assert read(tmp_path, keras, "class_index.json") == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("cat\n\ndog", "line 2: is empty"),
        ("cat\ndog\ncat", "line 3: cat occurs twice, first in line 1"),
        (
            "n01440764 a\nn02102040 b\nn01440764 c",
            "line 3: n01440764 occurs twice, first in line 1",
        ),
        ("0,tench\n1,goldfish", "line 1: '0,tench' has a number before the class"),
        ("0 tench\n1 goldfish", "has a number before"),
        ("2: goldfish\n1: tench", "has a number before"),
        ("0\ttench\n1\tgoldfish", "has a number before"),
        ("tench,1\ngoldfish,0", "has a number after"),
        ("tench 0\ngoldfish 1", "has a number after"),
        ("tench\tTinca\ngoldfish\tCarassius", "line 1: has columns (a tab)"),
        ('"tench, Tinca tinca"\ngoldfish', 'line 1: "tench, Tinca tinca" is in quotes'),
        ("'tench'\n'goldfish'", "is in quotes"),
        ("'tench',\n'goldfish',", "line 1: \"'tench',\" ends with ','"),
        ("id,name\nn01440764,tench\nn02102040,springer", "line 1: 'id,name' is the header"),
        ("wnid\tname\nn01440764\ttench", "is the header of a table"),
        ("n02119789 1 kit_fox\nn02100735 2 English_setter", "has a number before the class"),
        ("n01440764\ttench\tfish\nn02102040\tdog\tmammal", "line 1: has columns"),
        ('n01440764,"tench, Tinca tinca"\nn02102040,dog', 'line 1: "tench, Tinca tinca" is in'),
        ("1. tench\n2. goldfish", "has a number before"),
        ("1) tench\n2) goldfish", "has a number before"),
        ("1=goldfish\n0=tench", "has a number before"),
        ("goldfish=1\ntench=0", "has a number after"),
        ("n02102040 1\nn01440764 0", "has a number after the wnid"),
        ("n02102040,0\nn01440764,1", "has a number after the wnid"),
        ("- tench\n- goldfish", "begins with '- '"),
        ("* tench\n* goldfish", "begins with '* '"),
        ("cat\n\ufeffdog", r"line 2: holds the character '\ufeff'"),
        ('{"0": ["tench", "n01440764"]}', "has the name before the wnid ('tench', 'n01440764')"),
        ("cat\nd\x00g", r"line 2: holds the character '\x00'"),
        ("cat\nd\u2028g", r"line 2: holds the character '\u2028'"),
        (b"\xff\xfec\0a\0t\0", "cannot be read as text"),
        ("{0: 'tench',\n 1: 'goldfish'}", "line 1: is not JSON"),
        ("[tench]", "is not JSON"),
        ('["a", "b"', "is not JSON"),
        ("[]", "lists no classes"),
        ("{}", "lists no classes"),
        ('["a", "a"]', "entry 2: a occurs twice"),
        ('["a", ""]', "position 1: '' is empty"),
        ('["a", " b"]', "has white space around it"),
        ('["a", 1]', "position 1: 1 is not the text of a class"),
        ('["a", null]', "position 1: None is not the text"),
        ('["a", ["b"]]', "position 1: ['b'] is not the text"),
        ('[["n01440764", "tench"]]', "is not the text of a class"),
        ('["a", "\\ud800"]', r"holds the character '\ud800'"),
        ('["a", "b\\n"]', r"holds the character '\n'"),
        ('{"0": "a", "2": "b"}', "the entry '2' has no position from 0 to 1"),
        ('{"1": "a", "2": "b"}', "the entry '2' has no position from 0 to 1"),
        ('{"0": "a", "00": "b"}', "the entry '00' has no position"),
        ('{"0": "a", "0": "b"}', "has the key '0' twice"),
        ('{"0": "ab", "1": ["n01440764", "tench"]}', "position 1: ['n01440764', 'tench'] is not"),
        ('{"0": ["n01440764", "tench", "fish"]}', "is not the text of a class"),
        ('{"0": ["n01440764", 5]}', "position 0: 5 is not the text"),
        ('{"0": ["n01440764", "a"], "1": ["n01440764", "b"]}', "entry 2: n01440764 occurs twice"),
        ('{"a": 0, "b": 0}', "'a' and 'b' have the same position 0"),
        ('{"a": 0, "b": 2}', "the entry 'b' has no position from 0 to 1"),
        ('{"a": 1, "b": 2}', "has no position from 0 to 1"),
        ('{"a": 0.0, "b": 1.0}', "the entry 'a' has no position"),
        ('{"a": true, "b": false}', "the entry 'a' has no position"),
        ('{"id2label": {"0": "a"}}', "the entry 'id2label' has no position"),
        ('{"' + "1" * 5000 + '": "a"}', "has no position"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "1" * 5000 + "]", "too long a number"),
    ],
)
def test_what_is_no_class_list_is_refused_by_line_or_entry(tmp_path, text, words):
    assert words in refused(tmp_path, text)


def test_a_list_that_is_not_there_or_no_list_of_json(tmp_path):
    with pytest.raises(InputError, match="cannot be read as text"):
        read_class_list(tmp_path / "gone.txt")
    assert "is no list of classes" in refused(tmp_path, '"cat"', "list.json")


def test_random_lists_come_back_whole(tmp_path):
    """Words of any letters and spaces between them, through every form."""
    rng = np.random.default_rng(3)
    letters = list("abcxyz äöü-_.()'&/北")
    for _ in range(60):
        count = int(rng.integers(2, 12))
        names = ["".join(rng.choice(letters, 12)).strip() or "x" for _ in range(count)]
        names = [f"k{name}k" for name in dict.fromkeys(names)]
        whole = (tuple(names), tuple(names))
        assert read(tmp_path, "\n".join(names)) == whole
        assert read(tmp_path, json.dumps(names)) == whole
        assert read(tmp_path, json.dumps(dict(enumerate(names)))) == whole
        assert read(tmp_path, json.dumps({name: i for i, name in enumerate(names)})) == whole


# How a net's classes meet a data set's


def match(data_ids: tuple[str, ...], spec: NetSpec, stated: bool = False):
    return match_classes(tuple(sorted(data_ids)), spec, stated, "photos", "net.pth")


def test_a_net_without_ids_takes_sorted_folders_and_says_so():
    found = match(("b", "a", "d", "c"), NetSpec("A", numbered(4)))
    assert found.classes == ("a", "b", "c", "d")
    assert found.assumed == "names no classes: taken in the order a, b, c, ... of photos"


def test_a_net_with_ids_assumes_nothing():
    spec = NetSpec("A", ("dog", "cat", "cow"))
    assert match(("cat", "cow"), spec).classes == spec.classes
    assert match(("cat", "cow"), spec).assumed == ""
    with pytest.raises(InputError, match="its 3 classes lack 1 of the 2 of photos: pig"):
        match(("cat", "pig"), spec)


def test_photos_without_labels_meet_every_net():
    assert match((), NetSpec("A", numbered(3))).classes == numbered(3)


@pytest.mark.parametrize("names", [numbered(12), tuple(f"{i:03}" for i in range(12))])
def test_folders_from_0_are_met_by_number(names):
    """Sorted as text, 10 comes before 2. Oracle: the position that each name spells."""
    found = match(names, NetSpec("A", numbered(12)))
    assert [int(id) for id in found.classes] == list(range(12))
    assert "names no classes: counted from 0" in found.assumed


@pytest.mark.parametrize(
    "folders",
    [
        tuple(str(i) for i in range(1, 1001)),  # ILSVRC ids
        ("1", "2", "10", "200"),
        ("1", "2", "3"),
        ("0", "5", "7"),
        ("999",),
        tuple(f"{i:04}" for i in range(1, 1001)),
        tuple(str(2 * i) for i in range(1000)),
    ],
)
def test_other_numbers_are_ambiguous(folders):
    with pytest.raises(Unstated, match="the file does not say which") as caught:
        match(folders, NetSpec("A", numbered(1000)))
    assert caught.value.about == "classes" and "--" not in caught.value.message


def test_stated_numbers_are_ids():
    ids = tuple(str(i) for i in range(1, 1001))
    spec = with_classes(NetSpec("A", numbered(1000)), ClassList(ids, ids), "net.pth")
    found = match(("1", "2", "10", "200"), spec, stated=True)
    assert [found.classes.index(id) for id in ("1", "2", "10", "200")] == [0, 1, 9, 199]
    assert match(("5", "7"), NetSpec("A", numbered(1000)), stated=True).classes == numbered(1000)
    with pytest.raises(InputError, match="lack 1 of the 1 of photos: 1001"):
        match(("1001",), spec, stated=True)


def test_a_list_must_not_contradict_the_file():
    own = NetSpec("A", ("dog", "cat"), ("Dog", "Cat"))
    same = ClassList(("dog", "cat"), ("hound", "kitten"))
    assert with_classes(own, same, "net.pt") == own
    unnamed = with_classes(NetSpec("A", ("dog", "cat")), same, "net.pt")
    assert unnamed.names == same.names
    with pytest.raises(InputError, match="its class 0 is dog, not cat as the class list says"):
        with_classes(own, ClassList(("cat", "dog"), ("cat", "dog")), "net.pt")
    with pytest.raises(InputError, match="net.pt: scores 2 classes, the class list has 3"):
        with_classes(own, ClassList(("a", "b", "c"), ("a", "b", "c")), "net.pt")


def test_a_command_adds_its_hint():
    with pytest.raises(InputError, match="^open; give it$"), hints({"crop": "give it"}):
        raise Unstated("crop", "open")
    with pytest.raises(Unstated, match="^open$"), hints({"crop": "give it"}):
        raise Unstated("classes", "open")
