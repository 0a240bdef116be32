-- ------------------------------------------------------------------------------- tables whose statistics may be told
-- Empty: nobody is told statistics of a table that they may not read. `*` in a pattern stands for any characters; a pattern
-- without one names its table, and only so is a table with row-level security (or one whose parent or part has it) enrolled.
CREATE TABLE IF NOT EXISTS indexpilot.statistics_tables (
  schema_pattern text NOT NULL CHECK (schema_pattern <> ''),
  table_pattern  text NOT NULL CHECK (table_pattern <> ''),
  schema_like    text GENERATED ALWAYS AS (replace(replace(replace(replace(schema_pattern, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')) STORED,
  table_like     text GENERATED ALWAYS AS (replace(replace(replace(replace(table_pattern, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')) STORED,
  by_name        boolean GENERATED ALWAYS AS (strpos(schema_pattern || table_pattern, '*') = 0) STORED,
  enrolled_by    text NOT NULL,
  enrolled_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (schema_pattern, table_pattern)
);

-- For an administrator: whoever ran this script, the owner of this schema, a superuser.
CREATE OR REPLACE FUNCTION indexpilot.enrol_statistics(p_schema text, p_table text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
BEGIN
  PERFORM indexpilot._enter();
  IF coalesce(p_schema, '') = '' OR coalesce(p_table, '') = '' OR octet_length(p_schema || p_table) > 300 THEN
    PERFORM indexpilot._refuse('pattern', 'a schema and a table are enrolled, each by its name or a pattern with *');
  END IF;
  IF p_schema IN ('pg_catalog', 'information_schema', 'indexpilot') OR p_schema LIKE 'pg\_%' THEN
    PERFORM indexpilot._refuse('pattern', format('statistics of %s are told to nobody', p_schema));
  END IF;
  INSERT INTO indexpilot.statistics_tables (schema_pattern, table_pattern, enrolled_by) VALUES (p_schema, p_table, session_user)
  ON CONFLICT DO NOTHING;
  IF FOUND THEN
    PERFORM indexpilot._log(NULL, NULL, 'statistics.enrolled', jsonb_build_object('schema', p_schema, 'table', p_table));
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.withdraw_statistics(p_schema text, p_table text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
BEGIN
  PERFORM indexpilot._enter();
  DELETE FROM indexpilot.statistics_tables t WHERE t.schema_pattern = p_schema AND t.table_pattern = p_table;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM indexpilot._log(NULL, NULL, 'statistics.withdrawn', jsonb_build_object('schema', p_schema, 'table', p_table));
  RETURN true;
END
$$;
