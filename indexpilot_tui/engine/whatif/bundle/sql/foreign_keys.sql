-- Foreign keys: which table refers to which. A key of a partition that comes from its parent's is not listed.
/* indexpilot */
select k.conrelid::int8 as table_oid, k.conname::text as name, k.confrelid::int8 as "references"
  from pg_catalog.pg_constraint k
 where k.contype = 'f' and k.conparentid = 0
 order by 1, 2
