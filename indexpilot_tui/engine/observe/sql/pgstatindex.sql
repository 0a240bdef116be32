-- A B-tree, counted: this reads all of it.
select /* indexpilot */ s.index_size::int8, s.internal_pages::int8, s.leaf_pages::int8, s.empty_pages::int8, s.deleted_pages::int8,
       s.avg_leaf_density::float8, s.leaf_fragmentation::float8
from {schema}.pgstatindex(%(oid)s::int8::pg_catalog.oid::pg_catalog.regclass) s
