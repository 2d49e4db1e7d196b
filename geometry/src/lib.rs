//! Index arithmetic of attention kernels, const and exhaustively tested on the host
