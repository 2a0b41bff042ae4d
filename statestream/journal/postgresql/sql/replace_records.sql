-- Replaces what records say about their requests.
UPDATE {schema}.requests r SET digest = '', slices = n.slices, crc = n.crc
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS n (actor, id, slices, crc)
WHERE r.actor = n.actor AND r.id = n.id
