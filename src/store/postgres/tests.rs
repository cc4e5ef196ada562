//! What only the driver can show.
