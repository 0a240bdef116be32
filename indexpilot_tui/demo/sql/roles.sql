-- The people of the sample shop: who owns it, who works on it, and who looks after its indexes.
CREATE EXTENSION pg_stat_statements;
CREATE ROLE shop_owner NOLOGIN;
CREATE ROLE shop_app LOGIN;
CREATE ROLE demo_monitor LOGIN;
CREATE ROLE demo_operator LOGIN;
CREATE ROLE demo_approver LOGIN;
CREATE SCHEMA shop AUTHORIZATION shop_owner;
GRANT USAGE ON SCHEMA shop TO shop_app;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner IN SCHEMA shop GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO shop_app;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner IN SCHEMA shop GRANT USAGE ON SEQUENCES TO shop_app;
