-- Makes checkpoint $1 the earliest position.
WITH moved AS (
    UPDATE {schema}.head SET floor_seq = $1, floor_tag = $2
    WHERE floor_seq < $1 AND EXISTS (SELECT FROM {schema}.checkpoints p WHERE p.seq = $1 AND p.tag = $2)
    RETURNING floor_seq
)
DELETE FROM {schema}.checkpoints p USING moved WHERE p.seq < moved.floor_seq
