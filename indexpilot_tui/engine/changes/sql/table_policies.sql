-- Whether row-level security is on for a table or any table under it, or policies stand ready for it.
select exists (select from pg_catalog.pg_class c
               where (c.oid = t.oid or c.oid in (select x.relid from pg_catalog.pg_partition_tree(t.oid) x))
                 and (c.relrowsecurity or c.relforcerowsecurity
                      or exists (select from pg_catalog.pg_policy p where p.polrelid = c.oid))) as guarded
from pg_catalog.pg_class t where t.oid = %(table_oid)s::pg_catalog.oid
