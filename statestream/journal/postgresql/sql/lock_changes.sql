-- Locks the changes that are as they were read, unless another transaction replaces them.
SELECT c.seq FROM {schema}.changes c
WHERE EXISTS (
    SELECT FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (seq, tag, crc)
    WHERE k.seq = c.seq AND k.tag = c.tag AND k.crc = c.crc
) AND c.seq = ANY ($1)
FOR UPDATE SKIP LOCKED
