-- Mean widths of a table's columns, by the function that setup-sql makes for logins that may not read the table.
select s.column as name, pg_catalog.max(s.avg_width) as avg_width
from indexpilot.column_statistics(array[%(schema)s]::pg_catalog.name[], array[%(table)s]::pg_catalog.name[]) s
group by s.column
