//! (see the contract)
