//! The CUDA driver functions that cust links to, opened at run time
