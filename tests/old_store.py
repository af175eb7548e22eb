"""What a device store of an earlier version is made of, as that version wrote it."""

from typing import Final

VERSION_1: Final = """
CREATE TABLE events (id INTEGER PRIMARY KEY, at_s REAL NOT NULL, item TEXT NOT NULL, value REAL NOT NULL,
    fields TEXT NOT NULL);
CREATE TABLE impressions (id INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, bundle TEXT NOT NULL,
    items TEXT NOT NULL, features BLOB NOT NULL, width INTEGER NOT NULL);
CREATE TABLE outcomes (impression INTEGER NOT NULL REFERENCES impressions(id) ON DELETE CASCADE, item TEXT NOT NULL,
    label REAL NOT NULL, PRIMARY KEY (impression, item)) WITHOUT ROWID;
CREATE TABLE personal (bundle TEXT PRIMARY KEY, params BLOB NOT NULL);
"""
