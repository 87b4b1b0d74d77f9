//! What the build script made of the `.proto` files. The modules are nested like the packages,
//! since the generated code refers from one to the other that way.

#![expect(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated code"
)]

pub mod kahn {
    pub mod api {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/kahn.api.v1.rs"));
        }
    }
    pub mod storage {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/kahn.storage.v1.rs"));
        }
    }
    pub mod worker {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/kahn.worker.v1.rs"));
        }
    }
}
