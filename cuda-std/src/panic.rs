//! The panic handler of device builds: a panic becomes `trap`, which ends the kernel with an error on the host.

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    crate::misc::trap()
}
