-- Replaces what changes held.
UPDATE {schema}.changes c
SET kind = n.kind, type = n.type, request = n.request, actor = n.actor, data = n.data, payload = n.payload, crc = n.crc
FROM unnest(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[]
) AS n (seq, kind, type, request, actor, data, payload, crc)
WHERE c.seq = n.seq
