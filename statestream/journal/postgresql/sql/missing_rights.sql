-- The rights that the role lacks, of those that a running journal needs, as the page on running a server lists them.
SELECT n.table_name, n.privilege
FROM unnest($2::text[], $3::text[]) AS n (table_name, privilege)
WHERE NOT coalesce(has_table_privilege(format('%I.%I', $1::text, n.table_name), n.privilege), false)
