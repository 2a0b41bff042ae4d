-- The selected changes after $1, up to $2 of all changes, and no more of them than $3 bytes but at least one. One
-- statement is one snapshot, so the place of the position and the changes belong together. `selected` is how many there
-- would be without the limit of bytes; each row has the place again, and without changes there is one row.
SELECT h.seq AS head_seq, h.tag AS head_tag, h.floor_seq, h.floor_tag,
    (SELECT f.tag FROM {schema}.changes f WHERE f.seq = $1) AS found,
    (SELECT u.tag FROM {schema}.changes u WHERE u.seq = least(h.seq, $1 + $2)) AS until_tag,
    c.*
FROM {schema}.head h
LEFT JOIN (
    SELECT s.seq, s.from_version, s.at, s.crc, s.tag, s.slice, s.kind, s.type, s.request, s.actor, s.data, s.payload,
        count(*) OVER () AS selected,
        octet_length(s.data) + octet_length(s.payload) + 200 AS size,
        sum(octet_length(s.data) + octet_length(s.payload) + 200) OVER (ORDER BY s.seq) AS total
    FROM {schema}.changes s
    WHERE s.seq > $1 AND s.seq <= $1 + $2
        AND ($4 OR s.slice = ANY ($5) OR (strpos(s.slice, '/') > 0 AND split_part(s.slice, '/', 1) = ANY ($6)))
) c ON c.total <= $3 OR c.total = c.size
ORDER BY c.seq
