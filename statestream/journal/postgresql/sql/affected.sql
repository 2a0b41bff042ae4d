-- These changes, and those that came of the same requests. The changes of an action follow each other.
SELECT DISTINCT ON (b.seq)
    b.seq, b.from_version, b.at, b.crc, b.tag, b.slice, b.kind, b.type, b.request, b.actor, b.data, b.payload
FROM unnest($1::bigint[]) AS k (seq)
JOIN {schema}.changes a ON a.seq = k.seq
JOIN {schema}.changes b ON b.seq BETWEEN a.seq - 100 AND a.seq + 100 AND b.tag = a.tag AND b.request = a.request
ORDER BY b.seq
