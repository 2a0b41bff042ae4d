-- The tables of a SQLite journal, version 3. `application_id` and `user_version` mark the file as ours. `crc` is the
-- CRC-32 of the other columns; `checksums.py` says what else is counted, and why.

-- `ledger` is set in the last change of each batch. `kind` is empty, and with it all columns up to `payload`, if the
-- change was folded.
CREATE TABLE changes (
    seq          INTEGER PRIMARY KEY,
    tag          TEXT NOT NULL,
    slice        TEXT NOT NULL,
    from_version INTEGER NOT NULL,
    kind         TEXT NOT NULL,
    data         BLOB NOT NULL,
    type         TEXT NOT NULL,
    request      TEXT NOT NULL,
    actor        TEXT,
    payload      BLOB NOT NULL,
    at           INTEGER NOT NULL,
    crc          INTEGER NOT NULL,
    ledger       BLOB
) STRICT;

-- The version of each slice that exists.
CREATE TABLE versions (
    slice   TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    crc     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How the requests of the last 24 hours ended.
CREATE TABLE requests (
    actor   TEXT NOT NULL,
    id      TEXT NOT NULL,
    digest  BLOB NOT NULL,
    seq     INTEGER NOT NULL,
    tag     TEXT NOT NULL,
    changes TEXT NOT NULL,
    at      INTEGER NOT NULL,
    crc     INTEGER NOT NULL,
    PRIMARY KEY (actor, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_by_age ON requests (at);

-- Positions at which the state is kept: of each slice the newest row of `snapshots` at or before it. `slices` is how
-- many exist there, and `total` the sum of the CRCs of their rows.
CREATE TABLE checkpoints (
    seq    INTEGER PRIMARY KEY,
    tag    TEXT NOT NULL,
    at     INTEGER NOT NULL,
    bytes  INTEGER NOT NULL,
    slices INTEGER NOT NULL,
    total  INTEGER NOT NULL,
    crc    INTEGER NOT NULL
) STRICT;

-- `value` is NULL where the slice did not exist at that checkpoint.
CREATE TABLE snapshots (
    slice      TEXT NOT NULL,
    checkpoint INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    tag        TEXT NOT NULL,
    value      BLOB,
    crc        INTEGER NOT NULL,
    PRIMARY KEY (slice, checkpoint)
) STRICT, WITHOUT ROWID;

-- One row: the last trimmed position, which is 0.0 until something has been trimmed. `ledger` counts if it is the head.
CREATE TABLE floor (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    seq    INTEGER NOT NULL,
    tag    TEXT NOT NULL,
    ledger BLOB NOT NULL,
    crc    INTEGER NOT NULL
) STRICT;

-- `schema.py` adds the table `erasures`: which slices were erased at which seq, for checkpoints before it that are made
-- later, and whether their bytes were overwritten. Rows before the earliest position are deleted.

-- `folding.py` adds the table `folding`: up to where the history was looked through for what can be folded.

-- `noted_time.py` adds the table `clock`, also to files from before there was one.
