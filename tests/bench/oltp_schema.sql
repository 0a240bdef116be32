create extension if not exists pg_trgm;
create schema crm;
create schema "Billing Dept";
create table crm.tenants (id int primary key, name text not null, plan text not null, created_at timestamptz not null);
create table crm.users (id bigint primary key, tenant_id int not null references crm.tenants, email text not null,
  name text not null, active boolean not null, deleted_at timestamptz, tags text[] not null, profile jsonb not null,
  created_at timestamptz not null, last_seen timestamptz);
create table crm.tickets (id bigint primary key, tenant_id int not null, reporter bigint not null references crm.users,
  assignee bigint, status text not null, priority int not null, subject text not null, body text not null,
  deleted_at timestamptz, created_at timestamptz not null, updated_at timestamptz not null);
create table crm.comments (id bigint primary key, ticket_id bigint not null references crm.tickets on delete cascade,
  author bigint not null, body text not null, created_at timestamptz not null);
create table crm.bookings (id bigint primary key, room int not null, during tstzrange not null, tenant_id int not null);
create table crm.jobs (id bigint primary key, queue text not null, state text not null, run_at timestamptz not null,
  attempts int not null, payload jsonb not null);
create table crm.audit (id bigint not null, tenant_id int not null, action text not null, actor bigint not null,
  at timestamptz not null) partition by range (at);
create table crm.audit_2024 partition of crm.audit for values from ('2024-01-01') to ('2025-01-01');
create table crm.audit_2025 partition of crm.audit for values from ('2025-01-01') to ('2026-01-01');
create table crm.readings (sensor int not null, at timestamptz not null, value float8 not null);
create table "Billing Dept"."Invoices" ("Id" bigint primary key, "TenantId" int not null, "Number" text not null,
  "Total" numeric(12,2) not null, "IssuedOn" date not null, "PaidOn" date, "Currency" char(3) not null);
create table "Billing Dept"."InvoiceLines" ("InvoiceId" bigint not null references "Billing Dept"."Invoices",
  "Sku" text not null, "Quantity" int not null, "Price" numeric(12,2) not null);
create view crm.open_tickets as
  select t.id, t.tenant_id, t.subject, u.email from crm.tickets t join crm.users u on u.id = t.reporter
   where t.deleted_at is null and t.status = 'open';
create index users_tenant on crm.users (tenant_id);
create index users_tenant_again on crm.users (tenant_id);
create index tickets_updated on crm.tickets (updated_at);

select setseed(0.42);
insert into crm.tenants select g, 'Tenant ' || g, (array['free', 'team', 'pro'])[1 + g % 3], now() - g * interval '1 day'
  from generate_series(1, 400) g;
insert into crm.users
  select g, 1 + (random() ^ 2 * 399)::int, 'User' || g || '@Example' || g % 50 || '.org', 'Name ' || md5(g::text), g % 10 > 0,
         case when g % 20 = 0 then now() - g * interval '1 min' end,
         array['tag' || g % 200, 'kind' || g % 7], jsonb_build_object('city', 'City' || g % 500, 'lang', 'l' || g % 12),
         now() - g * interval '7 min', case when g % 3 = 0 then now() - g * interval '1 min' end
    from generate_series(1, 60000) g;
insert into crm.tickets
  select g, 1 + (random() ^ 2 * 399)::int, 1 + (random() * 59999)::int, case when g % 4 > 0 then 1 + g % 300 end,
         case when g % 100 = 0 then 'open' when g % 101 = 0 then 'pending' else 'closed' end, g % 5,
         'Subject ' || md5(g::text) || ' ' || md5((g * 7)::text), repeat(md5(g::text), 4),
         case when g % 10 = 0 then now() end, now() - (200000 - g) * interval '3 min', now() - (200000 - g) * interval '2 min'
    from generate_series(1, 200000) g;
insert into crm.comments
  select g, 1 + (random() * 199999)::int, 1 + (random() * 59999)::int, md5(g::text), now() - (300000 - g) * interval '1 min'
    from generate_series(1, 300000) g;
insert into crm.bookings
  select g, 1 + g % 300, tstzrange(now() + g * interval '10 min', now() + (g + 6) * interval '10 min'), 1 + g % 400
    from generate_series(1, 60000) g;
insert into crm.jobs
  select g, 'q' || g % 5, case when g % 400 = 0 then 'ready' when g % 401 = 0 then 'failed' else 'done' end,
         now() - (150000 - g) * interval '1 s', g % 3, jsonb_build_object('kind', 'k' || g % 900)
    from generate_series(1, 150000) g;
insert into crm.audit
  select g, 1 + (random() ^ 2 * 399)::int, 'action' || g % 40, 1 + (random() * 59999)::int,
         timestamptz '2024-01-01' + g * interval '5 min'
    from generate_series(1, 200000) g;
insert into crm.readings
  select g % 50, timestamptz '2024-01-01' + g * interval '1 s', random() from generate_series(1, 600000) g;
insert into "Billing Dept"."Invoices"
  select g, 1 + (random() ^ 2 * 399)::int, 'INV-' || to_char(g, 'FM00000000'), (random() * 1000)::numeric(12,2),
         date '2020-01-01' + g % 2000, case when g % 25 > 0 then date '2020-02-01' + g % 2000 end, 'EUR'
    from generate_series(1, 80000) g;
insert into "Billing Dept"."InvoiceLines"
  select 1 + g % 80000, 'SKU' || g % 3000, g % 9, (random() * 100)::numeric(12,2) from generate_series(1, 240000) g;
