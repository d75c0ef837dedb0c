"""Pascal VOC's annotation files; the oracle of good files is ElementTree's own parser."""

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vgg_deploy.data.voc_xml import MOST_BYTES, VocObject, parse_voc, read_voc
from vgg_deploy.errors import InputError

VOC_2007 = """<annotation>
	<folder>VOC2007</folder>
	<filename>000001.jpg</filename>
	<source><database>The VOC2007 Database</database><image>flickr</image></source>
	<owner><flickrid>Fried Camels</flickrid><name>Jinky the Fruit Bat</name></owner>
	<size><width>353</width><height>500</height><depth>3</depth></size>
	<segmented>0</segmented>
	<object>
		<name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
		<bndbox><xmin>48</xmin><ymin>240</ymin><xmax>195</xmax><ymax>371</ymax></bndbox>
	</object>
	<object>
		<name>person</name><pose>Left</pose><truncated>0</truncated><difficult>1</difficult>
		<part>
			<name>head</name>
			<bndbox><xmin>100</xmin><ymin>9</ymin><xmax>110</xmax><ymax>19</ymax></bndbox>
		</part>
		<bndbox><xmin>8</xmin><ymin>12.5</ymin><xmax>352</xmax><ymax>4.98e2</ymax></bndbox>
	</object>
</annotation>"""


def parse(text: str | bytes):
    return parse_voc(text.encode() if isinstance(text, str) else text, "000001.xml")


def test_a_file_of_voc_2007_is_read_as_elementtree_reads_it():
    annotation = parse(VOC_2007)
    assert annotation.filename == "000001.jpg" and annotation.size == (353, 500)
    oracle = ElementTree.fromstring(VOC_2007)
    for found, element in zip(annotation.objects, oracle.findall("object"), strict=True):
        box = element.find("bndbox")
        assert found.name == element.findtext("name")
        assert found.corners == tuple(
            float(box.findtext(tag)) for tag in ("xmin", "ymin", "xmax", "ymax")
        )
    assert [found.difficult for found in annotation.objects] == [False, True]
    assert [found.truncated for found in annotation.objects] == [True, False]


def test_a_file_without_size_boxes_or_objects_is_read():
    text = "<annotation><object><name> a cat </name></object></annotation>"
    assert parse(text) == ("", None, (VocObject("a cat", None),))
    assert parse("<annotation/>").objects == ()
    sized = "<annotation><size><width>0</width><height>0</height></size></annotation>"
    assert parse(sized).size is None


def test_other_encodings_are_read():
    text = "<annotation><object><name>Käfer</name></object></annotation>"
    for encoding in ("latin-1", "utf-16", "utf-8"):
        data = f"<?xml version='1.0' encoding='{encoding}'?>{text}".encode(encoding)
        assert parse(data).objects[0].name == "Käfer"


ENTITIES = "<!DOCTYPE a [<!ENTITY x 'y'><!ENTITY z '&x;&x;&x;'>]>"
REFUSED = {
    "nothing": (b"", "is not XML"),
    "cut off": (VOC_2007[:700], "is not XML"),
    "bytes": (bytes(range(256)), "is not XML"),
    "unknown encoding": ("<?xml version='1.0' encoding='what'?><annotation/>", "is not XML"),
    "many bytes a letter": ("<?xml version='1.0' encoding='gb18030'?><annotation/>", "is not XML"),
    "unknown entity": ("<annotation>&x;</annotation>", "is not XML"),
    "entities": (f"{ENTITIES}<annotation>&z;</annotation>", "declares a document type"),
    "another file": (
        "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><annotation/>",
        "declares a document type",
    ),
    "depth": ("<annotation>" + "<a>" * 99 + "</a>" * 99 + "</annotation>", "nests more than 16"),
    "html": ("<html><body/></html>", "begins with <html>, expected <annotation>"),
    "no name": ("<annotation><object/></annotation>", "object 1: has no <name>"),
    "long name": (
        f"<annotation><object><name>{'a' * 999}</name></object></annotation>",
        "<name> has 999 characters",
    ),
    "NaN": (VOC_2007.replace("195", "nan"), "object 1 (dog): <xmax> is 'nan', expected a number"),
    "infinite": (VOC_2007.replace("371", "1e999"), "<ymax> is '1e999', expected a number"),
    "underscores": (VOC_2007.replace("195", "1_95"), "<xmax> is '1_95', expected a number"),
    "no corner": (VOC_2007.replace("<xmin>8</xmin>", ""), "object 2 (person): <xmin> is missing"),
    "flag": (VOC_2007.replace("<difficult>1", "<difficult>yes"), "<difficult> is 'yes', expected"),
    "size": (VOC_2007.replace("<width>353", "<width>-3"), "<size> -3 x 500 is no size"),
    "half a pixel": (VOC_2007.replace("<width>353", "<width>3.5"), "<size> 3.5 x 500 is no size"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_annotation_gets_one_sentence(case):
    text, expected = REFUSED[case]
    with pytest.raises(InputError) as refused:
        parse(text)
    message = refused.value.message
    assert message.startswith("000001.xml") and expected in message
    assert "\n" not in message and len(message) < 250


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.xml: cannot be read \(No such file"):
        read_voc(tmp_path / "none.xml")
    large = tmp_path / "large.xml"
    with open(large, "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match="more than the 4 MiB"):
        read_voc(large)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.xml")
        with pytest.raises(InputError, match="named pipe"):
            read_voc(tmp_path / "pipe.xml")
    good = tmp_path / "good.xml"
    good.write_text(VOC_2007)
    assert read_voc(good) == parse(VOC_2007)
