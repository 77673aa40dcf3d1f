/* The layout of every public struct in 0.1, frozen: 64-bit, natural alignment.
 * A struct may grow at its end in a later version, so its size is a lower bound
 * there; one that stands in arrays without a stride may not. See ctests/abi. */
#include "check.h"
#include <xcopy_plugin.h>
#include <xcopy_scsi.h>

#if UINTPTR_MAX == UINT64_MAX
#if XCOPY_VERSION_MAJOR == 0 && XCOPY_VERSION_MINOR == 1
#define SIZE(type, size) \
    _Static_assert(sizeof(struct type) == (size), #type)
#else
#define SIZE(type, size) \
    _Static_assert(sizeof(struct type) >= (size), #type)
#endif
#define FIXED(type, size) \
    _Static_assert(sizeof(struct type) == (size), #type)
#define AT(type, field, offset) \
    _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)

SIZE(xcopy_context_options, 88);
AT(xcopy_context_options, size, 0);
AT(xcopy_context_options, flags, 4);
AT(xcopy_context_options, pool_threads, 8);
AT(xcopy_context_options, log_level, 12);
AT(xcopy_context_options, log, 16);
AT(xcopy_context_options, log_ctx, 24);
AT(xcopy_context_options, alloc, 32);
AT(xcopy_context_options, free, 40);
AT(xcopy_context_options, alloc_ctx, 48);
AT(xcopy_context_options, thread_start, 56);
AT(xcopy_context_options, thread_ctx, 64);
AT(xcopy_context_options, memory_budget, 72);
AT(xcopy_context_options, methods, 80);
AT(xcopy_context_options, retry_after_s, 84);

SIZE(xcopy_queue_options, 32);
AT(xcopy_queue_options, size, 0);
AT(xcopy_queue_options, flags, 4);
AT(xcopy_queue_options, capacity, 8);
AT(xcopy_queue_options, window, 12);
AT(xcopy_queue_options, depth, 16);
AT(xcopy_queue_options, reserved, 20);
AT(xcopy_queue_options, chunk, 24);

FIXED(xcopy_range, 24);
AT(xcopy_range, src_offset, 0);
AT(xcopy_range, dst_offset, 8);
AT(xcopy_range, length, 16);

SIZE(xcopy_ext, 40);
AT(xcopy_ext, size, 0);
AT(xcopy_ext, reserved, 4);
AT(xcopy_ext, ranges, 8);
AT(xcopy_ext, nranges, 16);
AT(xcopy_ext, report, 24);
AT(xcopy_ext, token_lifetime_s, 32);
AT(xcopy_ext, token_type, 36);

SIZE(xcopy_request, 64);
AT(xcopy_request, user_data, 0);
AT(xcopy_request, op, 8);
AT(xcopy_request, reserved, 10);
AT(xcopy_request, flags, 12);
AT(xcopy_request, src, 16);
AT(xcopy_request, dst, 20);
AT(xcopy_request, src_offset, 24);
AT(xcopy_request, dst_offset, 32);
AT(xcopy_request, length, 40);
AT(xcopy_request, methods, 48);
AT(xcopy_request, timeout_ms, 52);
AT(xcopy_request, ext, 56);

SIZE(xcopy_completion, 64);
AT(xcopy_completion, user_data, 0);
AT(xcopy_completion, res, 8);
AT(xcopy_completion, flags, 12);
AT(xcopy_completion, bytes_done, 16);
AT(xcopy_completion, bytes_copied, 24);
AT(xcopy_completion, bytes_offloaded, 32);
AT(xcopy_completion, detail, 40);
AT(xcopy_completion, commands, 48);
AT(xcopy_completion, method, 52);
AT(xcopy_completion, reason, 54);
AT(xcopy_completion, reserved, 56);

FIXED(xcopy_method_share, 16);
AT(xcopy_method_share, method, 0);
AT(xcopy_method_share, offloaded, 2);
AT(xcopy_method_share, commands, 4);
AT(xcopy_method_share, bytes, 8);

FIXED(xcopy_fallback, 16);
AT(xcopy_fallback, method, 0);
AT(xcopy_fallback, reason, 2);
AT(xcopy_fallback, error, 4);
AT(xcopy_fallback, detail, 8);

SIZE(xcopy_report, 1080);
AT(xcopy_report, size, 0);
AT(xcopy_report, nshares, 4);
AT(xcopy_report, nfallbacks, 8);
AT(xcopy_report, sense_len, 12);
AT(xcopy_report, failed_index, 16);
AT(xcopy_report, failed, 24);
AT(xcopy_report, untouched_from, 48);
AT(xcopy_report, shares, 56);
AT(xcopy_report, fallbacks, 568);
AT(xcopy_report, sense, 824);
AT(xcopy_report, reserved, 1076);

SIZE(xcopy_limits, 48);
AT(xcopy_limits, preferred_bytes, 0);
AT(xcopy_limits, max_bytes, 8);
AT(xcopy_limits, max_range_bytes, 16);
AT(xcopy_limits, src_granularity, 24);
AT(xcopy_limits, dst_granularity, 28);
AT(xcopy_limits, length_granularity, 32);
AT(xcopy_limits, max_ranges, 36);
AT(xcopy_limits, max_concurrent, 40);
AT(xcopy_limits, contiguous_dst, 44);

SIZE(xcopy_method_info, 288);
AT(xcopy_method_info, method, 0);
AT(xcopy_method_info, reason, 2);
AT(xcopy_method_info, usable, 4);
AT(xcopy_method_info, offloaded, 8);
AT(xcopy_method_info, generation, 12);
AT(xcopy_method_info, limits, 16);
AT(xcopy_method_info, name, 64);
AT(xcopy_method_info, plugin, 96);
AT(xcopy_method_info, text, 128);

SIZE(xcopy_device_info, 320);
AT(xcopy_device_info, kind, 0);
AT(xcopy_device_info, open_flags, 4);
AT(xcopy_device_info, size_bytes, 8);
AT(xcopy_device_info, block_size, 16);
AT(xcopy_device_info, physical_block_size, 20);
AT(xcopy_device_info, dev_major, 24);
AT(xcopy_device_info, dev_minor, 28);
AT(xcopy_device_info, disk_major, 32);
AT(xcopy_device_info, disk_minor, 36);
AT(xcopy_device_info, disk_offset, 40);
AT(xcopy_device_info, in_flight, 48);
AT(xcopy_device_info, events, 52);
AT(xcopy_device_info, size_known, 56);
AT(xcopy_device_info, reserved, 60);
AT(xcopy_device_info, name, 64);

SIZE(xcopy_plugin_info, 464);
AT(xcopy_plugin_info, name, 0);
AT(xcopy_plugin_info, version, 32);
AT(xcopy_plugin_info, description, 64);
AT(xcopy_plugin_info, path, 192);
AT(xcopy_plugin_info, methods, 448);
AT(xcopy_plugin_info, model, 452);
AT(xcopy_plugin_info, abi_version, 456);
AT(xcopy_plugin_info, cmd_private, 460);

SIZE(xcopy_progress, 32);
AT(xcopy_progress, bytes_total, 0);
AT(xcopy_progress, bytes_copied, 8);
AT(xcopy_progress, bytes_offloaded, 16);
AT(xcopy_progress, commands_in_flight, 24);
AT(xcopy_progress, method, 28);

SIZE(xcopy_queue_stats, 96);
AT(xcopy_queue_stats, requests, 0);
AT(xcopy_queue_stats, completions, 8);
AT(xcopy_queue_stats, commands, 16);
AT(xcopy_queue_stats, command_errors, 24);
AT(xcopy_queue_stats, retries, 32);
AT(xcopy_queue_stats, fallbacks, 40);
AT(xcopy_queue_stats, bytes_copied, 48);
AT(xcopy_queue_stats, bytes_offloaded, 56);
AT(xcopy_queue_stats, late_answers, 64);
AT(xcopy_queue_stats, plugin_faults, 72);
AT(xcopy_queue_stats, abandoned, 80);
AT(xcopy_queue_stats, memory_bytes, 88);

SIZE(xcopy_token_info, 216);
AT(xcopy_token_info, bytes, 0);
AT(xcopy_token_info, export_bytes, 8);
AT(xcopy_token_info, lifetime_s, 16);
AT(xcopy_token_info, token_type, 20);
AT(xcopy_token_info, method, 24);
AT(xcopy_token_info, reserved, 26);
AT(xcopy_token_info, filled, 28);
AT(xcopy_token_info, plugin, 32);
AT(xcopy_token_info, created_s, 64);
AT(xcopy_token_info, origin_offset, 72);
AT(xcopy_token_info, shows, 80);
AT(xcopy_token_info, reserved2, 84);
AT(xcopy_token_info, origin, 88);

SIZE(xcopy_cmd, 104);
AT(xcopy_cmd, cookie, 0);
AT(xcopy_cmd, op, 8);
AT(xcopy_cmd, method, 10);
AT(xcopy_cmd, flags, 12);
AT(xcopy_cmd, src, 16);
AT(xcopy_cmd, dst, 24);
AT(xcopy_cmd, ranges, 32);
AT(xcopy_cmd, nranges, 40);
AT(xcopy_cmd, timeout_ms, 44);
AT(xcopy_cmd, bytes, 48);
AT(xcopy_cmd, buffer, 56);
AT(xcopy_cmd, token, 64);
AT(xcopy_cmd, token_size, 72);
AT(xcopy_cmd, token_type, 76);
AT(xcopy_cmd, token_lifetime_s, 80);
AT(xcopy_cmd, method_index, 84);
AT(xcopy_cmd, arg, 88);
AT(xcopy_cmd, private_data, 96);

SIZE(xcopy_result, 64);
AT(xcopy_result, cookie, 0);
AT(xcopy_result, status, 8);
AT(xcopy_result, action, 12);
AT(xcopy_result, reason, 14);
AT(xcopy_result, bytes, 16);
AT(xcopy_result, detail, 24);
AT(xcopy_result, flags, 32);
AT(xcopy_result, sense_len, 36);
AT(xcopy_result, sense, 40);
AT(xcopy_result, token_size, 48);
AT(xcopy_result, token_type, 52);
AT(xcopy_result, token_lifetime_s, 56);
AT(xcopy_result, reserved, 60);

SIZE(xcopy_device_desc, 88);
AT(xcopy_device_desc, size, 0);
AT(xcopy_device_desc, kind, 4);
AT(xcopy_device_desc, open_flags, 8);
AT(xcopy_device_desc, fd, 12);
AT(xcopy_device_desc, name, 16);
AT(xcopy_device_desc, native, 24);
AT(xcopy_device_desc, host_device, 32);
AT(xcopy_device_desc, dev_major, 40);
AT(xcopy_device_desc, dev_minor, 44);
AT(xcopy_device_desc, disk_major, 48);
AT(xcopy_device_desc, disk_minor, 52);
AT(xcopy_device_desc, disk_offset, 56);
AT(xcopy_device_desc, inode, 64);
AT(xcopy_device_desc, size_bytes, 72);
AT(xcopy_device_desc, block_size, 80);
AT(xcopy_device_desc, physical_block_size, 84);

SIZE(xcopy_device_props, 184);
AT(xcopy_device_props, size, 0);
AT(xcopy_device_props, block_size, 4);
AT(xcopy_device_props, size_bytes, 8);
AT(xcopy_device_props, preferred_io_bytes, 16);
AT(xcopy_device_props, max_io_bytes, 24);
AT(xcopy_device_props, identity, 32);
AT(xcopy_device_props, identity_offset, 40);
AT(xcopy_device_props, read_only, 48);
AT(xcopy_device_props, reserved, 52);
AT(xcopy_device_props, text, 56);

SIZE(xcopy_verdict, 224);
AT(xcopy_verdict, usable, 0);
AT(xcopy_verdict, reason, 4);
AT(xcopy_verdict, ttl_s, 6);
AT(xcopy_verdict, limits, 8);
AT(xcopy_verdict, bytes_per_us, 56);
AT(xcopy_verdict, flags, 60);
AT(xcopy_verdict, text, 64);

SIZE(xcopy_open_args, 200);
AT(xcopy_open_args, desc, 0);
AT(xcopy_open_args, device, 8);
AT(xcopy_open_args, props, 16);

SIZE(xcopy_probe_args, 24);
AT(xcopy_probe_args, verdicts, 0);
AT(xcopy_probe_args, stride, 8);
AT(xcopy_probe_args, n, 16);
AT(xcopy_probe_args, reserved, 20);

SIZE(xcopy_host, 56);
AT(xcopy_host, struct_size, 0);
AT(xcopy_host, abi_version, 4);
AT(xcopy_host, log, 8);
AT(xcopy_host, alloc, 16);
AT(xcopy_host, free, 24);
AT(xcopy_host, complete, 32);
AT(xcopy_host, complete_local, 40);
AT(xcopy_host, device_event, 48);

SIZE(xcopy_plugin_method, 16);
AT(xcopy_plugin_method, name, 0);
AT(xcopy_plugin_method, flags, 8);
AT(xcopy_plugin_method, worth, 12);

SIZE(xcopy_plugin_queue_options, 16);
AT(xcopy_plugin_queue_options, size, 0);
AT(xcopy_plugin_queue_options, flags, 4);
AT(xcopy_plugin_queue_options, window, 8);
AT(xcopy_plugin_queue_options, reserved, 12);

SIZE(xcopy_plugin, 184);
AT(xcopy_plugin, struct_size, 0);
AT(xcopy_plugin, abi_version, 4);
AT(xcopy_plugin, name, 8);
AT(xcopy_plugin, version, 16);
AT(xcopy_plugin, description, 24);
AT(xcopy_plugin, model, 32);
AT(xcopy_plugin, flags, 36);
AT(xcopy_plugin, commands, 40);
AT(xcopy_plugin, cmd_private, 44);
AT(xcopy_plugin, max_ranges, 48);
AT(xcopy_plugin, nmethods, 52);
AT(xcopy_plugin, methods, 56);
AT(xcopy_plugin, method_stride, 64);
AT(xcopy_plugin, start, 72);
AT(xcopy_plugin, stop, 80);
AT(xcopy_plugin, open, 88);
AT(xcopy_plugin, close, 96);
AT(xcopy_plugin, probe, 104);
AT(xcopy_plugin, queue_create, 112);
AT(xcopy_plugin, queue_destroy, 120);
AT(xcopy_plugin, submit, 128);
AT(xcopy_plugin, poll, 136);
AT(xcopy_plugin, queue_fd, 144);
AT(xcopy_plugin, arm, 152);
AT(xcopy_plugin, cancel, 160);
AT(xcopy_plugin, execute, 168);
AT(xcopy_plugin, describe, 176);

SIZE(xcopy_scsi_command, 64);
AT(xcopy_scsi_command, size, 0);
AT(xcopy_scsi_command, direction, 4);
AT(xcopy_scsi_command, cdb, 8);
AT(xcopy_scsi_command, cdb_len, 16);
AT(xcopy_scsi_command, timeout_ms, 20);
AT(xcopy_scsi_command, data, 24);
AT(xcopy_scsi_command, data_len, 32);
AT(xcopy_scsi_command, sense_room, 36);
AT(xcopy_scsi_command, sense, 40);
AT(xcopy_scsi_command, sense_len, 48);
AT(xcopy_scsi_command, residual, 52);
AT(xcopy_scsi_command, status, 56);
AT(xcopy_scsi_command, host_status, 60);

SIZE(xcopy_scsi_transport, 40);
AT(xcopy_scsi_transport, size, 0);
AT(xcopy_scsi_transport, max_transfer, 4);
AT(xcopy_scsi_transport, max_concurrent, 8);
AT(xcopy_scsi_transport, reserved, 12);
AT(xcopy_scsi_transport, ctx, 16);
AT(xcopy_scsi_transport, execute, 24);
AT(xcopy_scsi_transport, name, 32);
#endif

/* What bindings read must be what C sees. */
int main(void)
{
    CHECK_EQ(xcopy_struct_size("xcopy_context_options"), sizeof(struct xcopy_context_options));
    CHECK_EQ(xcopy_struct_size("xcopy_queue_options"), sizeof(struct xcopy_queue_options));
    CHECK_EQ(xcopy_struct_size("xcopy_range"), sizeof(struct xcopy_range));
    CHECK_EQ(xcopy_struct_size("xcopy_ext"), sizeof(struct xcopy_ext));
    CHECK_EQ(xcopy_struct_size("xcopy_request"), sizeof(struct xcopy_request));
    CHECK_EQ(xcopy_struct_size("xcopy_completion"), sizeof(struct xcopy_completion));
    CHECK_EQ(xcopy_struct_size("xcopy_method_share"), sizeof(struct xcopy_method_share));
    CHECK_EQ(xcopy_struct_size("xcopy_fallback"), sizeof(struct xcopy_fallback));
    CHECK_EQ(xcopy_struct_size("xcopy_report"), sizeof(struct xcopy_report));
    CHECK_EQ(xcopy_struct_size("xcopy_limits"), sizeof(struct xcopy_limits));
    CHECK_EQ(xcopy_struct_size("xcopy_method_info"), sizeof(struct xcopy_method_info));
    CHECK_EQ(xcopy_struct_size("xcopy_device_info"), sizeof(struct xcopy_device_info));
    CHECK_EQ(xcopy_struct_size("xcopy_plugin_info"), sizeof(struct xcopy_plugin_info));
    CHECK_EQ(xcopy_struct_size("xcopy_progress"), sizeof(struct xcopy_progress));
    CHECK_EQ(xcopy_struct_size("xcopy_queue_stats"), sizeof(struct xcopy_queue_stats));
    CHECK_EQ(xcopy_struct_size("xcopy_token_info"), sizeof(struct xcopy_token_info));
    return check_done();
}
