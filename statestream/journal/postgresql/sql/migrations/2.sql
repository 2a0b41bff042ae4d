-- Version 2. Changes may be folded: then `kind`, `data`, `type`, `request` and `payload` are empty.

-- Up to where the history was looked through for what can be folded.
CREATE TABLE {schema}.folding (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL,
    tag text NOT NULL
);
