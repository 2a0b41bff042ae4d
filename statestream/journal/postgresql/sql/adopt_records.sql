-- Inserts idempotency records of another journal.
INSERT INTO {schema}.requests (actor, id, at, seq, tag, digest, slices, crc)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[], $7::text[], $8::bigint[]
)
