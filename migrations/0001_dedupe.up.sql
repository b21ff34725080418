-- What has been done. Filed by day, so that what is old enough is dropped whole.
create table onceward_dedupe (
    event_key uuid not null,
    scope int not null,
    bucket date not null,
    -- 0: done. Others come with later versions; readers treat what they do not know as done.
    state smallint not null default 0,
    topic int not null,
    partition int not null,
    record_offset bigint not null,
    at timestamptz not null default now(),
    -- The column with the many values first: with `scope` first an update on a
    -- partition that was never analysed is planned as a scan.
    primary key (event_key, scope, bucket)
) partition by range (bucket);

-- One row a day that has a partition, and when it was last written to.
create table onceward_bucket (
    bucket date primary key,
    written_at timestamptz not null default now()
);

-- Consumer group and handler, and topic, by number.
create table onceward_scope (
    id int generated always as identity primary key,
    group_id text not null,
    handler text not null,
    topics text[] not null,
    unique (group_id, handler)
);

create table onceward_topic (
    id int generated always as identity primary key,
    name text not null unique
);

-- The fence: a new owner of a partition raises its token, and the old one can
-- claim nothing more.
create table onceward_owner (
    group_id text not null,
    topic text not null,
    partition int not null,
    token bigint not null,
    primary key (group_id, topic, partition)
);

-- The oldest version of the tables that a program may know and still run on these.
create table onceward_version (
    only_row boolean primary key default true check (only_row),
    oldest_program int not null
);

insert into onceward_version (oldest_program) values (1);

-- Makes the partition of a day (since 1970-01-01) and notes that it is written to. With the rights
-- of the tables' owner, so that a service's role needs none to make tables.
--
-- The partition is made apart and then attached: `create table .. partition of` would lock the
-- parent against every open transaction. The search path is the tables' schema, set by the migration.
create function onceward_make_day(day int) returns void
language plpgsql security definer set search_path from current as $$
declare
    first date := date '1970-01-01' + day;
    partition text := 'onceward_dedupe_' || to_char(first, 'YYYYMMDD');
    half_detached boolean;
begin
    -- One at a time: a second maker waits here and finds the table made.
    perform pg_advisory_xact_lock(hashtextextended('onceward_dedupe', 0));
    select inhdetachpending into half_detached from pg_inherits
    where inhparent = 'onceward_dedupe'::regclass and inhrelid = to_regclass(partition);
    -- A drop was interrupted: it takes no rows.
    if half_detached then
        execute format('alter table onceward_dedupe detach partition %I finalize', partition);
    end if;
    if half_detached is distinct from false then
        if to_regclass(partition) is null then
            execute format('create table %I (like onceward_dedupe including defaults)', partition);
        end if;
        execute format('alter table onceward_dedupe attach partition %I for values from (%L) to (%L)',
            partition, first, first + 1);
    end if;
    insert into onceward_bucket (bucket) values (first)
    on conflict (bucket) do update set written_at = now();
end
$$;

revoke execute on function onceward_make_day from public;
