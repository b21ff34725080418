drop table flights_totals;
