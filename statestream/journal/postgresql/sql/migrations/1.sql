-- The tables of a PostgreSQL journal, version 1. `crc` is the CRC-32 of the contents of a row, see `checksums.py`.

CREATE TABLE {schema}.about (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL
);

-- One row: the newest position, and the earliest one. Whoever appends locks it, so sequence numbers are given out in the
-- order of the commits, and none is given out in vain.
CREATE TABLE {schema}.head (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq       bigint NOT NULL,
    tag       text NOT NULL,
    floor_seq bigint NOT NULL,
    floor_tag text NOT NULL
) WITH (fillfactor = 50);

INSERT INTO {schema}.head (seq, tag, floor_seq, floor_tag) VALUES (0, '0', 0, '0');

CREATE TABLE {schema}.changes (
    seq          bigint PRIMARY KEY,
    from_version bigint NOT NULL,
    at           bigint NOT NULL,
    crc          bigint NOT NULL,
    tag          text NOT NULL,
    slice        text COLLATE "C" NOT NULL,
    kind         text NOT NULL,
    type         text NOT NULL,
    request      text NOT NULL,
    actor        text,
    data         bytea NOT NULL,
    payload      bytea NOT NULL
);

-- The version of each slice that exists.
CREATE TABLE {schema}.versions (
    slice   text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL
) WITH (fillfactor = 70);

-- How the requests of the last 24 hours ended. Their changes have consecutive numbers, of which `seq` is the last.
CREATE TABLE {schema}.requests (
    actor  text COLLATE "C" NOT NULL,
    id     text COLLATE "C" NOT NULL,
    at     bigint NOT NULL,
    seq    bigint NOT NULL,
    crc    bigint NOT NULL,
    tag    text NOT NULL,
    digest bytea NOT NULL,
    slices text NOT NULL,
    PRIMARY KEY (actor, id)
);

CREATE INDEX requests_by_age ON {schema}.requests (at, seq);

-- Positions at which the state is kept: of each slice the newest row of `snapshots` at or before it. `slices` is how
-- many exist there, and `total` the sum of the CRCs of their rows.
CREATE TABLE {schema}.checkpoints (
    seq    bigint PRIMARY KEY,
    tag    text NOT NULL,
    at     bigint NOT NULL,
    bytes  bigint NOT NULL,
    slices bigint NOT NULL,
    total  bigint NOT NULL
);

-- `value` is NULL where the slice did not exist at that checkpoint.
CREATE TABLE {schema}.snapshots (
    slice      text COLLATE "C" NOT NULL,
    checkpoint bigint NOT NULL,
    version    bigint NOT NULL,
    crc        bigint NOT NULL,
    tag        text NOT NULL,
    value      bytea,
    PRIMARY KEY (slice, checkpoint)
);

CREATE INDEX snapshots_by_checkpoint ON {schema}.snapshots (checkpoint);

-- The time of the age clock, for the next start and for other nodes.
CREATE TABLE {schema}.clock (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    at  bigint NOT NULL
);

-- Appends a batch in one round trip, so a client that stops in between never holds the lock.
--
-- Each statement has a snapshot of its own, taken after the lock: what it compares is what the last batch has left. A
-- version below 0 stands for a change of this batch: -2 is the second one. Plans are made once, and single rows are
-- looked up by scalar queries, for which no statistics can make the planner read whole tables. An IF without a query
-- costs next to nothing, so queries are in an IF of their own.
CREATE FUNCTION {schema}.append(
    read_seq bigint, read_tag text, new_tag text, now_ms bigint, oldest_ms bigint,
    expected_slices text[], expected_versions bigint[],
    record_actors text[], record_ids text[], record_digests bytea[], record_slices text[], record_upto bigint[],
    record_crcs bigint[],
    change_slices text[], change_kinds text[], change_types text[], change_requests text[], change_actors text[],
    change_ats bigint[], change_data bytea[], change_payloads bytea[], change_crcs bigint[], change_bases bigint[],
    removed_slices text[], written_slices text[], written_offsets bigint[]
) RETURNS TABLE (outcome text, head_seq bigint, detail text)
LANGUAGE plpgsql
SET lock_timeout = '5s'
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    h record;
    count bigint := cardinality(change_slices);
    moved text;
BEGIN
    SELECT head.seq, head.tag, head.floor_seq, head.floor_tag INTO h FROM {schema}.head FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'damaged', 0::bigint, '';
        RETURN;
    END IF;
    IF read_seq < h.floor_seq THEN
        RETURN QUERY SELECT 'expired', h.floor_seq, h.floor_tag;
        RETURN;
    END IF;
    IF (read_seq, read_tag) NOT IN ((h.seq, h.tag), (h.floor_seq, h.floor_tag)) THEN
        IF (SELECT c.tag FROM {schema}.changes c WHERE c.seq = read_seq) IS DISTINCT FROM read_tag THEN
            RETURN QUERY SELECT 'forked', h.seq, h.tag;
            RETURN;
        END IF;
    END IF;
    IF cardinality(record_ids) > 0 THEN
        IF EXISTS (
            SELECT FROM unnest(record_actors, record_ids) AS k (actor, id)
            WHERE (SELECT r.at FROM {schema}.requests r WHERE r.actor = k.actor AND r.id = k.id) >= oldest_ms
        ) THEN
            RETURN QUERY SELECT 'duplicate', h.seq, h.tag;
            RETURN;
        END IF;
    END IF;
    SELECT string_agg(e.slice, ', ') INTO moved FROM unnest(expected_slices, expected_versions) AS e (slice, version)
    WHERE coalesce((SELECT v.version FROM {schema}.versions v WHERE v.slice = e.slice), 0) <> e.version;
    IF moved IS NOT NULL THEN
        RETURN QUERY SELECT 'conflict', h.seq, moved;
        RETURN;
    END IF;
    IF count > 0 THEN
        INSERT INTO {schema}.changes
            (seq, from_version, at, crc, tag, slice, kind, type, request, actor, data, payload)
        SELECT h.seq + c.number, CASE WHEN c.base < 0 THEN h.seq - c.base ELSE c.base END, c.at, c.crc, new_tag,
            c.slice, c.kind, c.type, c.request, c.actor, c.data, c.payload
        FROM unnest(
            change_slices, change_kinds, change_types, change_requests, change_actors, change_ats, change_data,
            change_payloads, change_crcs, change_bases
        ) WITH ORDINALITY AS c (slice, kind, type, request, actor, at, data, payload, crc, base, number);
        IF cardinality(removed_slices) > 0 THEN
            DELETE FROM {schema}.versions v WHERE v.slice = ANY (removed_slices);
        END IF;
        INSERT INTO {schema}.versions AS v (slice, version)
        SELECT w.slice, h.seq + w.number FROM unnest(written_slices, written_offsets) AS w (slice, number)
        ON CONFLICT ON CONSTRAINT versions_pkey DO UPDATE SET version = excluded.version;
        UPDATE {schema}.head SET seq = h.seq + count, tag = new_tag;
    END IF;
    IF cardinality(record_ids) > 0 THEN
        INSERT INTO {schema}.requests AS r (actor, id, at, seq, crc, tag, digest, slices)
        SELECT k.actor, k.id, now_ms, h.seq + k.upto, k.crc, CASE WHEN k.upto > 0 THEN new_tag ELSE h.tag END,
            k.digest, k.slices
        FROM unnest(record_actors, record_ids, record_digests, record_slices, record_upto, record_crcs)
            AS k (actor, id, digest, slices, upto, crc)
        ON CONFLICT ON CONSTRAINT requests_pkey DO UPDATE SET at = excluded.at, seq = excluded.seq,
            crc = excluded.crc, tag = excluded.tag, digest = excluded.digest, slices = excluded.slices;
    END IF;
    IF count > 0 THEN
        NOTIFY {channel};
    END IF;
    RETURN QUERY SELECT 'appended', h.seq, h.tag;
END
$$;
