-- tenant: newest tickets of a tenant
select id, subject from crm.tickets where tenant_id = $1 and deleted_at is null order by created_at desc limit $2;
-- tenant and status
select id, subject, created_at from crm.tickets where tenant_id = $1 and status = $2;
-- skew: the few open tickets
select id, subject from crm.tickets where status = $1 order by created_at limit $2;
-- soft delete: what was deleted
select id from crm.users where deleted_at is not null and deleted_at < $1;
-- lower(): login
select id, name from crm.users where lower(email) = $1;
-- equality: login by exact address
select id from crm.users where email = $1;
-- jsonb containment
select id from crm.users where profile @> $1;
-- jsonb key as written
select id from crm.users where profile ->> 'city' = $1;
-- jsonb key made a parameter by normalisation
select id from crm.users where profile ->> $1 = $2;
-- LIKE with a prefix
select id, email from crm.users where email like 'User123%';
-- LIKE inside
select id, subject from crm.tickets where subject like '%deadbeef%';
-- ILIKE, a parameter
select id, name from crm.users where name ilike $1;
-- array containment
select id from crm.users where tags @> array[$1];
-- array overlap
select count(*) from crm.users where tags && array[$1, $2];
-- = any (column)
select id from crm.users where $1 = any (tags);
-- range overlap
select id from crm.bookings where room = $1 and during && $2;
-- range contains
select room from crm.bookings where during @> $1::timestamptz;
-- keyset pagination
select id, subject from crm.tickets where tenant_id = $1 and (created_at, id) < ($2, $3) order by created_at desc, id desc limit $4;
-- keyset over everything
select id, body from crm.comments where (created_at, id) > ($1, $2) order by created_at, id limit $3;
-- join that needs two indexes
select c.id, c.body from crm.tickets t join crm.comments c on c.ticket_id = t.id where t.assignee = $1;
-- three tables
select u.email, count(*) from crm.users u join crm.tickets t on t.reporter = u.id join crm.comments c on c.ticket_id = t.id where u.email = $1 group by u.email;
-- comments of a ticket
select id, body from crm.comments where ticket_id = $1 order by created_at;
-- exists
select t.id from crm.tickets t where t.assignee = $1 and exists (select 1 from crm.comments c where c.ticket_id = t.id and c.author = $2);
-- in list
select id, subject from crm.tickets where reporter in ($1, $2, $3);
-- any array
select id, subject from crm.tickets where assignee = any (array[$1, $2]) and status = $3;
-- interval
select count(*) from crm.comments where created_at > now() - interval $1;
-- date parameter
select "Id", "Total" from "Billing Dept"."Invoices" where "IssuedOn" = date $1;
-- mixed case, unpaid
select "Id", "Total" from "Billing Dept"."Invoices" where "TenantId" = $1 and "PaidOn" is null;
-- mixed case, number
select "Id" from "Billing Dept"."Invoices" where "Number" = $1;
-- schema with a blank, join
select l."Sku", l."Quantity" from "Billing Dept"."Invoices" i join "Billing Dept"."InvoiceLines" l on l."InvoiceId" = i."Id" where i."Number" = $1;
-- sum by product
select sum("Quantity" * "Price") from "Billing Dept"."InvoiceLines" where "Sku" = $1;
-- partitioned, by actor
select id, action, at from crm.audit where actor = $1 order by at desc limit $2;
-- partitioned, one partition by tenant
select count(*) from crm.audit where tenant_id = $1 and at >= '2025-02-01' and at < '2025-02-02';
-- time series, correlated with the disk
select avg(value) from crm.readings where at >= $1 and at < $2;
-- time series of one sensor
select at, value from crm.readings where sensor = $1 order by at desc limit $2;
-- queue: next job
select id, payload from crm.jobs where queue = $1 and state = 'ready' order by run_at limit $2 for update skip locked;
-- queue: failed jobs
select id from crm.jobs where state = $1 and attempts > $2;
-- update by key that is not indexed
update crm.jobs set state = $1 where payload @> $2;
-- update of one row by primary key
update crm.tickets set updated_at = $1, status = $2 where id = $3;
-- update by a foreign key
update crm.tickets set assignee = $1 where assignee = $2 and status = $3;
-- delete by primary key: comments cascade
delete from crm.tickets where id = $1;
-- delete old
delete from crm.jobs where state = $1 and run_at < $2;
-- insert
insert into crm.comments (id, ticket_id, author, body, created_at) values ($1, $2, $3, $4, $5);
-- a view
select id, subject, email from crm.open_tickets where tenant_id = $1;
-- a common table expression
with mine as (select id, subject from crm.tickets where assignee = $1) select m.subject, count(*) from mine m join crm.comments c on c.ticket_id = m.id group by m.subject;
-- group by over everything
select tenant_id, count(*) from crm.tickets group by tenant_id;
-- not selective
select count(*) from crm.users where active;
-- cast on the column
select id from crm.comments where ticket_id::text = $1;
-- function that is not immutable on a column
select id from crm.comments where date_trunc('day', created_at) = $1;
-- by primary key: nothing to do
select * from crm.users where id = $1;
-- small table
select * from crm.tenants where plan = $1;
-- a table that is not there
select * from crm.nowhere where id = $1;
-- utility
vacuum crm.users;
