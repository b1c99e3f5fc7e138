//! The lab: nodes, pods and clients as network namespaces of this machine.
