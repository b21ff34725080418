drop view onceward_dedupe;
drop table onceward_dedupe_0, onceward_dedupe_1, onceward_dedupe_2, onceward_dedupe_3;
drop table onceward_dedupe_4, onceward_dedupe_5, onceward_dedupe_6, onceward_dedupe_7;
drop table onceward_bucket;
alter table onceward_scope drop column keep;
update onceward_version set oldest_program = 1;

create table onceward_dedupe (
    event_key uuid not null,
    scope int not null,
    bucket date not null,
    state smallint not null default 0,
    topic int not null,
    partition int not null,
    record_offset bigint not null,
    at timestamptz not null default now(),
    primary key (event_key, scope, bucket)
) partition by range (bucket);

create table onceward_bucket (
    bucket date primary key,
    written_at timestamptz not null default now()
);

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
