-- The commonest, the rarest common and a middle value of the columns of some tables, as far as this login may see their statistics.
select s.attname::text as column,
       (s.most_common_vals::text::text[])[1] as common,
       (s.most_common_vals::text::text[])[pg_catalog.array_length(s.most_common_vals::text::text[], 1)] as rare,
       (s.histogram_bounds::text::text[])[1 + pg_catalog.array_length(s.histogram_bounds::text::text[], 1) / 2] as middle
from pg_catalog.pg_stats s
where s.tablename = any (%(tables)s::text[]) and s.schemaname = any (%(schemas)s::text[])
order by pg_catalog.array_position(%(schemas)s::text[], s.schemaname::text) desc, s.tablename, s.attname, s.inherited
