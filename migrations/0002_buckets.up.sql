-- What has been done is filed by when it was claimed, in a ring of tables that are all made here. Before, it
-- was filed by the day of the record's timestamp, so that a copy with a timestamp of another day counted again.

alter table onceward_dedupe rename to onceward_dedupe_by_day;
drop table onceward_bucket;
drop function onceward_make_day;

create table onceward_dedupe_0 (
    event_key uuid not null,
    scope int not null,
    -- 0: done, 1: dead-lettered. Others come with later versions; readers treat a state that they do not
    -- know as done.
    state smallint not null default 0,
    topic int not null,
    partition int not null,
    record_offset bigint not null,
    at timestamptz not null default now(),
    -- The column with the many values first: with `scope` first an update on a
    -- table that was never analysed is planned as a scan.
    primary key (event_key, scope)
);

create table onceward_dedupe_1 (like onceward_dedupe_0 including all);
create table onceward_dedupe_2 (like onceward_dedupe_0 including all);
create table onceward_dedupe_3 (like onceward_dedupe_0 including all);
create table onceward_dedupe_4 (like onceward_dedupe_0 including all);
create table onceward_dedupe_5 (like onceward_dedupe_0 including all);
create table onceward_dedupe_6 (like onceward_dedupe_0 including all);
create table onceward_dedupe_7 (like onceward_dedupe_0 including all);

-- One row a bucket that is in use. Bucket n is the table `onceward_dedupe_(n % 8)`. The one with the highest
-- number is the current one, into which claims go, whatever the clock says.
create table onceward_bucket (
    bucket int primary key,
    opened_at timestamptz not null default now(),
    -- When the next one was opened.
    closed_at timestamptz,
    -- No transaction that claimed in it, and in no later one, is open.
    sealed boolean not null default false,
    -- Since when nobody looks into it any more.
    expired_at timestamptz
);

insert into onceward_bucket (bucket) values (0);

insert into onceward_dedupe_0 (event_key, scope, state, topic, partition, record_offset, at)
select distinct on (event_key, scope) event_key, scope, state, topic, partition, record_offset, at
from onceward_dedupe_by_day
order by event_key, scope, state;

drop table onceward_dedupe_by_day;

-- How long each handler's service wants to know what was done.
alter table onceward_scope add column keep interval not null default interval '14 days';

-- For people. Nothing of Onceward's reads it.
create view onceward_dedupe as
    select 0 as slot, * from onceward_dedupe_0
    union all select 1, * from onceward_dedupe_1
    union all select 2, * from onceward_dedupe_2
    union all select 3, * from onceward_dedupe_3
    union all select 4, * from onceward_dedupe_4
    union all select 5, * from onceward_dedupe_5
    union all select 6, * from onceward_dedupe_6
    union all select 7, * from onceward_dedupe_7;

-- A program of before would not find its days.
update onceward_version set oldest_program = 2;
