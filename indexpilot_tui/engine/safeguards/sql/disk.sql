-- What the cluster has on its disks, in bytes: tablespaces and WAL. Whether WAL cannot be recycled because somebody who must read it is away.
select ((select pg_catalog.sum(pg_catalog.pg_tablespace_size(s.oid)) from pg_catalog.pg_tablespace s)
        + (select coalesce(pg_catalog.sum(w.size), 0) from pg_catalog.pg_ls_waldir() w))::float8 as used_bytes
