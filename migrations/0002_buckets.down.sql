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
