"""manifest.json says clearly what is wrong with it."""

from __future__ import annotations

import json

import jsonschema
import pytest

from devkit.errors import ManifestError
from devkit.manifest import Kind, read_manifest, schema_text

ENTRY = {
    "id": "sample",
    "kind": "filter",
    "name": "Sample",
    "source": "filters/sample.py",
    "dist": "dist/sample.py",
    "description": "Says hello.",
}
MANIFEST = {
    "version": "1.2.3",
    "min_open_webui_version": "0.12.0",
    "tested_open_webui_version": "0.12.4",
    "functions": [ENTRY],
}


@pytest.fixture
def read(tmp_path):
    def run(manifest):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        return read_manifest(tmp_path)

    return run


def test_defaults(read):
    (entry,) = read(MANIFEST).functions
    assert (entry.active, entry.global_, entry.valves, entry.icon) == (
        True,
        False,
        {},
        None,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "Sample"}, "functions.0.id: String should match"),
        ({"kind": "pump"}, "functions.0.kind: Input should be 'pipe'"),
        ({"dist": "dist/x.py"}, '"dist" must be "dist/sample.py"'),
        ({"name": "two\nlines"}, "functions.0.name: Value error, must be a single"),
        ({"description": 'a """'}, "must hold neither a triple quote"),
        ({"icon": "file.svg"}, '"icon" must start with data:image/'),
        ({"kind": "pipe", "global": True}, '"global" exists for filters and actions'),
        ({"kind": "tool", "active": False}, '"active" does not exist for tools'),
        ({"valve": {}}, "functions.0.valve: Extra inputs are not permitted"),
    ],
)
def test_a_faulty_entry(read, change, words):
    with pytest.raises(ManifestError) as caught:
        read(MANIFEST | {"functions": [ENTRY | change]})
    assert words in str(caught.value)
    assert str(caught.value).startswith("manifest.json is not valid: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "one"}, "version: Value error, is not a version number"),
        ({"functions": [ENTRY, ENTRY]}, "the id 'sample' is listed twice"),
    ],
)
def test_a_faulty_document(read, change, words):
    with pytest.raises(ManifestError, match=words):
        read(MANIFEST | change)


def test_a_missing_or_broken_file(tmp_path):
    with pytest.raises(ManifestError, match="does not exist"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match="is not valid: the document: Invalid JSON"):
        read_manifest(tmp_path)


def test_selecting_by_id(read):
    manifest = read(MANIFEST)
    assert manifest.select() == manifest.select(["sample"]) == list(manifest.functions)
    with pytest.raises(ManifestError, match="has no function 'other'; it lists sample"):
        manifest.select(["sample", "other"])


def test_the_schema_accepts_and_refuses_the_same(read):
    schema = json.loads(schema_text())
    jsonschema.validate(MANIFEST, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(MANIFEST | {"functions": [{"id": "x"}]}, schema)


def test_entry_classes():
    assert [kind.entry_class for kind in Kind] == [
        "Pipe",
        "Filter",
        "Action",
        "Event",
        "Tools",
    ]
