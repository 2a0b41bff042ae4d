-- What became of a batch: the head before it, or why it was not written.
SELECT outcome, head_seq, detail FROM {schema}.append(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26
)
