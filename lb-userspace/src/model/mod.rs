//! The desired state, made from Kubernetes objects: pure data, without clock, client or await.

mod desired;
mod key;
pub mod object;

pub use desired::{Frontend, ServicePort};
pub use key::{Family, Kind, ObjectKey, ServicePortKey};
pub use object::Object;
