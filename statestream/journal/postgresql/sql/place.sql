-- Where a position stands in the history: `found` is the tag that the history has at its seq.
SELECT h.seq, h.tag, h.floor_seq, h.floor_tag, (SELECT c.tag FROM {schema}.changes c WHERE c.seq = $1) AS found
FROM {schema}.head h
