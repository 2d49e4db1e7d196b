//! `cust` through the forwarders, on a machine with or without a driver.

#[test]
fn initialising_answers_instead_of_crashing() {
    match (flash_attention_cuda_driver::available(), cust::quick_init()) {
        (Ok(()), Ok(_)) => {}
        // A driver without a usable GPU.
        (Ok(()), Err(error)) => assert!(!error.to_string().is_empty()),
        (Err(reason), Err(_)) => {
            assert!(reason.to_string().contains("libcuda.so.1"), "{reason}");
        }
        (Err(reason), Ok(_)) => panic!("cust found a driver where there is none: {reason}"),
    }
}

#[test]
fn every_function_that_cust_names_is_forwarded() {
    let names: Vec<_> = flash_attention_cuda_driver::functions().collect();
    assert_eq!(names.len(), 108);
    for name in [
        "cuInit",
        "cuFuncSetAttribute",
        "cuGetErrorString",
        "cuGraphCreate",
        "cuMemcpyHtoA_v2",
        "cuStreamIsCapturing",
    ] {
        assert!(names.contains(&name), "{name}");
    }
}
