-- Inserts changes as another journal has numbered them.
INSERT INTO {schema}.changes (seq, tag, from_version, slice, kind, type, request, actor, at, data, payload, crc)
SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[],
    $10::bytea[], $11::bytea[], $12::bigint[]
)
