"""What a GeoPackage holds besides a layer of objects: its provenance, its style in QGIS, and areas.

Tables of the GeoPackage standard's metadata extension, and ``layer_styles`` as QGIS makes it; GDAL writes neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from legnet_cli.errors import DataError
from legnet_cli.untrusted import open_file

PROVENANCE = "urn:legnet:provenance"  # kind of metadata

_DATE = "1970-01-01T00:00:00.000Z"  # the same input gives the same bytes
_METADATA = f"""
CREATE TABLE gpkg_metadata (
    id INTEGER CONSTRAINT m_pk PRIMARY KEY ASC NOT NULL,
    md_scope TEXT NOT NULL DEFAULT 'dataset',
    md_standard_uri TEXT NOT NULL,
    mime_type TEXT NOT NULL DEFAULT 'text/xml',
    metadata TEXT NOT NULL DEFAULT ''
);
CREATE TABLE gpkg_metadata_reference (
    reference_scope TEXT NOT NULL,
    table_name TEXT,
    column_name TEXT,
    row_id_value INTEGER,
    timestamp DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    md_file_id INTEGER NOT NULL,
    md_parent_id INTEGER,
    CONSTRAINT crmr_mfi_fk FOREIGN KEY (md_file_id) REFERENCES gpkg_metadata(id),
    CONSTRAINT crmr_mpi_fk FOREIGN KEY (md_parent_id) REFERENCES gpkg_metadata(id)
);
INSERT INTO gpkg_extensions VALUES
    ('gpkg_metadata', NULL, 'gpkg_metadata', 'http://www.geopackage.org/spec120/#extension_metadata', 'read-write'),
    ('gpkg_metadata_reference', NULL, 'gpkg_metadata', 'http://www.geopackage.org/spec120/#extension_metadata',
     'read-write');
INSERT INTO gpkg_metadata VALUES (1, 'dataset', '{PROVENANCE}', 'application/json', :text);
"""
_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256),
    f_table_schema TEXT(256),
    f_table_name TEXT(256),
    f_geometry_column TEXT(256),
    styleName TEXT(30),
    styleQML TEXT,
    styleSLD TEXT,
    useAsDefault BOOLEAN,
    description TEXT,
    owner TEXT(30),
    ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
);
INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change)
    VALUES ('layer_styles', 'attributes', 'layer_styles', '', :date);
"""
_STYLE = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML,
    styleSLD, useAsDefault, description, owner, update_time)
    VALUES ('', '', ?, 'geom', 'outlines', ?, '', 1, 'outlines in the colours of a column', '', ?)
"""


def add_provenance(path: Path, layers: Sequence[str], text: str) -> None:
    """Say in JSON ``text`` how ``layers`` of a GeoPackage without metadata were made.

    Raises:
        OSError: it cannot be written.
    """
    refer = "INSERT INTO gpkg_metadata_reference VALUES ('table', ?, NULL, NULL, ?, 1, NULL)"
    _run(path, _METADATA, {"text": text}, [(refer, (layer, _DATE)) for layer in layers])


def add_styles(path: Path, styles: Mapping[str, str]) -> None:
    """Give layers of a GeoPackage without styles a default one each, as QML.

    Raises:
        OSError: it cannot be written.
    """
    _run(path, _STYLES, {"date": _DATE}, [(_STYLE, (layer, qml, _DATE)) for layer, qml in styles.items()])


def refuse_recursion(path: Path) -> None:
    """Refuse a GeoPackage with a view that may never end.

    Raises:
        DataError: naming the view.
        sqlite3.Error: it is damaged.
    """
    query = "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger') AND sql LIKE '%recursive%'"
    with closing(_connect(path)) as file:
        if found := file.execute(query).fetchone():
            raise DataError(f"{path}: has a recursive view, {found[0]!r}, which may never end: remove it")


def _connect(path: Path) -> sqlite3.Connection:
    with open_file(path):  # of a FIFO SQLite would wait for ever
        pass
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def read_provenance(path: Path) -> str | None:
    """What :func:`add_provenance` said; None if it is not there."""
    query = "SELECT metadata FROM gpkg_metadata WHERE md_standard_uri = ?"
    try:
        refuse_recursion(path)
        with closing(_connect(path)) as file:
            found = file.execute(query, (PROVENANCE,)).fetchone()
    except (sqlite3.Error, FileNotFoundError):
        return None
    return None if found is None else str(found[0])


def table_names(path: Path) -> set[str]:
    """Names of the layers and tables of a GeoPackage; none if it cannot be read as one."""
    try:
        with closing(_connect(path)) as file:
            return {str(name) for (name,) in file.execute("SELECT table_name FROM gpkg_contents")}
    except (sqlite3.Error, OSError):
        return set()


def _run(path: Path, script: str, values: dict[str, str], more: Sequence[tuple[str, tuple[str, ...]]] = ()) -> None:
    """Run the statements of ``script``, then ``more``, in one transaction."""
    try:
        with closing(sqlite3.connect(path)) as file, file:
            for statement in filter(str.strip, script.split(";\n")):
                file.execute(statement, {name: value for name, value in values.items() if f":{name}" in statement})
            for statement, row in more:
                file.execute(statement, row)
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
