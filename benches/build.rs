//! Lets `wake_up.rs` see when librdkafka wakes a consumer up.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-benches=-Wl,--wrap=rd_kafka_queue_cb_event_enable");
}
