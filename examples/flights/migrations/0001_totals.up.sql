-- One row a plane. Each is updated often, so its page keeps room for the next version.
create table flights_totals (
    tailnum text primary key,
    flights bigint not null,
    cancelled bigint not null,
    dep_delay_sum bigint not null,
    distance_sum bigint not null,
    -- md5(chain || event_id) over the flights in their order.
    chain text not null
) with (fillfactor = 50);
