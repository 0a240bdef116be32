-- ----------------------------------------------------------------------------------------------------- reader of statistics
-- Column statistics for forecasts, to roles that may not read the tables: what pg_stats shows to a role that may. It returns
-- no rows of a table, but statistics hold single values (most common ones, histogram bounds), so it tells them of enrolled
-- tables only (indexpilot.statistics_tables, empty at first), and of these only to who has USAGE of the schema and some
-- privilege on the table, or could become its owner. Never of catalogs, of toast and temporary tables, or of this schema. Of
-- others forecasts say that their statistics are hidden.
-- Its owner can do nothing else: no login, nobody is a member, it owns this one function. It needs to be able to read what it
-- tells the statistics of: pg_read_all_data from PostgreSQL 14 on; on 13, SELECT on the tables.
-- A role that may not make it gets a warning, and everything else.
-- It works in the database that it is made in: install this script in the target's own database for it.
RESET ROLE;
DO $reader$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'indexpilot_statistics') THEN
    CREATE ROLE indexpilot_statistics NOLOGIN;
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'indexpilot_statistics' AND (rolcanlogin OR rolsuper)) THEN
    RAISE EXCEPTION 'role indexpilot_statistics exists and can log in or is a superuser'
      USING HINT = 'ALTER ROLE indexpilot_statistics NOLOGIN NOSUPERUSER';
  END IF;
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    GRANT indexpilot_statistics TO CURRENT_USER;
  END IF;
  EXECUTE $function$
    CREATE FUNCTION indexpilot.column_statistics(p_schemas name[], p_relations name[])
    RETURNS TABLE (schema text, relation text, "column" text, inherited boolean, null_frac text, avg_width integer,
      n_distinct float8, mcv text, mcf text, histogram text, correlation text, mce text, mcef text, elem_counts text,
      range_lengths text, range_empty text, range_bounds text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $body$
    DECLARE
      ranges text := 'NULL::text, NULL::text, NULL::text';
      become text := CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    BEGIN
      IF current_setting('server_version_num')::integer >= 170000 THEN
        ranges := 's.range_length_histogram::text, s.range_empty_frac::text, s.range_bounds_histogram::text';
      END IF;
      RETURN QUERY EXECUTE
        'SELECT s.schemaname::text, s.tablename::text, s.attname::text, s.inherited, s.null_frac::text, s.avg_width,'
        ' s.n_distinct::float8, s.most_common_vals::text, s.most_common_freqs::text, s.histogram_bounds::text,'
        ' s.correlation::text, s.most_common_elems::text, s.most_common_elem_freqs::text, s.elem_count_histogram::text, '
        || ranges ||
        -- c: what is asked of, a table or one of its indexes on expressions; t: the table
        $query$ FROM pg_catalog.pg_stats s WHERE (s.schemaname, s.tablename) IN (
          SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
          JOIN pg_catalog.pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
          JOIN pg_catalog.pg_namespace o ON o.oid = t.relnamespace
          WHERE n.nspname = ANY ($1) AND c.relname = ANY ($2)
            AND t.relkind IN ('r', 'p') AND t.relpersistence <> 't' AND t.oid >= 16384
            AND o.nspname NOT IN ('information_schema', 'indexpilot') AND o.nspname NOT LIKE 'pg\_%'
            AND (pg_catalog.has_schema_privilege($4, o.oid, 'USAGE')
                 AND (pg_catalog.has_table_privilege($4, t.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                      OR pg_catalog.has_any_column_privilege($4, t.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
                 OR pg_catalog.has_schema_privilege(t.relowner, o.oid, 'USAGE') AND pg_catalog.pg_has_role($4, t.relowner, $3))
            AND EXISTS (SELECT FROM indexpilot.statistics_tables e
              WHERE o.nspname LIKE e.schema_like AND t.relname LIKE e.table_like
                AND (e.by_name OR NOT EXISTS (
                  WITH RECURSIVE up (oid) AS (SELECT t.oid UNION
                      SELECT h.inhparent FROM pg_catalog.pg_inherits h JOIN up ON h.inhrelid = up.oid),
                    down (oid) AS (SELECT t.oid UNION
                      SELECT h.inhrelid FROM pg_catalog.pg_inherits h JOIN down ON h.inhparent = down.oid)
                  SELECT FROM (SELECT * FROM up UNION SELECT * FROM down) x JOIN pg_catalog.pg_class r ON r.oid = x.oid
                  WHERE r.relrowsecurity))))
        ORDER BY 1, 2, 3, 4 $query$
        USING p_schemas, p_relations, become, session_user::name;
    END
    $body$
  $function$;
  GRANT CREATE ON SCHEMA indexpilot TO indexpilot_statistics;
  ALTER FUNCTION indexpilot.column_statistics(name[], name[]) OWNER TO indexpilot_statistics;
  REVOKE ALL ON FUNCTION indexpilot.column_statistics(name[], name[]) FROM PUBLIC;
  GRANT EXECUTE ON FUNCTION indexpilot.column_statistics(name[], name[]) TO indexpilot_monitor;
  REVOKE CREATE ON SCHEMA indexpilot FROM indexpilot_statistics;
  GRANT USAGE ON SCHEMA indexpilot TO indexpilot_statistics;
  GRANT SELECT ON indexpilot.statistics_tables TO indexpilot_statistics;
  -- pg_stats tells of a table with policies to nobody whom they hold; which of these are told is decided above
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    ALTER ROLE indexpilot_statistics BYPASSRLS;
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_read_all_data') THEN
    BEGIN
      GRANT pg_read_all_data TO indexpilot_statistics;
    EXCEPTION WHEN insufficient_privilege THEN
      IF NOT pg_has_role('indexpilot_statistics', 'pg_read_all_data', 'MEMBER') THEN
        RAISE WARNING 'pg_read_all_data could not be granted: statistics of tables stay hidden from forecasts'
          USING HINT = 'as an administrator: GRANT pg_read_all_data TO indexpilot_statistics';
      END IF;
    END;
  END IF;
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    REVOKE indexpilot_statistics FROM CURRENT_USER;
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE WARNING 'the reader of statistics could not be made: %', SQLERRM
    USING HINT = 'run this script as a superuser, or grant pg_read_all_data to the logins that make forecasts';
END
$reader$;
