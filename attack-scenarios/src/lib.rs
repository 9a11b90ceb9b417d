//! The replay suite: attack scenarios played against a forward proxy, and judged.
//!
//! [`case`] is a case and [`corpus`] all of them, [`target`] a kind of proxy, [`cell`] one namespace with one proxy in it,
//! [`verdict`] the judge and [`suite`] the whole. What stands around the proxy is `egret-testkit`.
//! No code of egret's own is used, so that the judge and the judged cannot share a mistake.

pub mod audit;
pub mod case;
pub mod cell;
pub mod corpus;
pub mod load;
pub mod mutation;
pub mod observed;
mod play;
pub mod report;
pub mod seeds;
pub mod suite;
pub mod target;
pub mod verdict;
