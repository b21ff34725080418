drop function onceward_make_day;
drop table onceward_version;
drop table onceward_owner;
drop table onceward_topic;
drop table onceward_scope;
drop table onceward_bucket;
drop table onceward_dedupe;
