"""List what each hot command and the launcher call, and what else they look for, by module.

A key names the commands that all call what it lists, and no others do (making.py). The code caches hold these. Any
other function is loaded at its first call (leancode.py), any other class or table when it is looked for (linking.py),
which takes some 20 microseconds more. `make called` writes this file (scripts/called.py). It is not read while a
command's cache is valid.
"""

# fmt: off
CALLED: dict[str, dict[str, str]] = {
    "create": {
        "rootless.cgroup.tree": "_switch_on _switch_on.<locals>.<genexpr>",
        "rootless.cli.commands.create": "main",
        "rootless.cli.requests": "read_request",
        "rootless.runtime.bundle": "CreateRequest.needs_helpers CreateRequest.needs_monitor open_bundle",
        "rootless.runtime.state": "_make_root",
    },
    "create delete": {
        "rootless.cgroup.tree": "write_file",
    },
    "create run": {
        "rootless.cgroup": "check_limits",
        "rootless.cgroup.driver":
            "Cgroup._configure Cgroup._controllers Cgroup._make_directories Cgroup._required Cgroup.create "
            "Cgroup.missing Cgroup.note_identity",
        "rootless.cgroup.tree": "enable make_directory",
        "rootless.cli.requests": "_cgroup_manager _change_config make_request",
        "rootless.errors": "RootlessError",
        "rootless.init":
            "_accept _await_runtime _become_root _become_user _become_user.<locals>.<listcomp> _die_with_runtime "
            "_leave _look_up_program _say_nothing _wait_for_start _wait_for_start.<locals>.<genexpr> main",
        "rootless.kernel.files": "read_at_most",
        "rootless.kernel.signals": "block",
        "rootless.log": "rfc3339",
        "rootless.plan.compiler": "Plan.last Plan.outside Plan.outside.<locals>.<listcomp> Plan.waits_for_runtime",
        "rootless.process.hooks": "HookContext.__init__",
        "rootless.runtime.bundle":
            "Bundle.__init__ CreateRequest.__init__ CreateRequest.wants_terminal find_bundle load_bundle "
            "parse_config read_config",
        "rootless.runtime.container": "Container.save",
        "rootless.runtime.create":
            "Created.__init__ Creation.__init__ Creation._bind_notify_socket Creation._follow_setup "
            "Creation._make_cgroup Creation._open_hook_streams Creation._prepare_mounts "
            "Creation._prepare_mounts.<locals>.<listcomp> Creation._record_host_side_effects Creation.clone "
            "Creation.clone.<locals>.<listcomp> Creation.clone_init Creation.clone_init.<locals>.leave_runtime "
            "Creation.clone_init.<locals>.live Creation.execute Creation.follow Creation.prepare _listen "
            "_passed_sockets _possible_maps _warn compile_plan create first_state note_made_cgroup "
            "note_planned_cgroup",
        "rootless.runtime.state":
            "StateDir._link StateDir.make StateDir.note_cgroup StateDir.note_init StateDir.rename StateDir.write",
        "rootless.steps.binds": "BindMount",
        "rootless.steps.cgroup": "CreateCgroup.execute",
        "rootless.steps.namespaces":
            "CloneNamespaces.__init__ CloneNamespaces.execute WriteIdMaps.__init__ WriteIdMaps.execute "
            "namespace_steps time_steps",
        "rootless.userns.idmap": "_is_own _write_single _write_text write_map write_map.<locals>.<genexpr> write_maps",
    },
    "create run delete launcher": {
        "rootless.kernel.files": "write_at",
    },
    "create run exec": {
        "rootless.cgroup.driver": "Cgroup.fd",
        "rootless.kernel.signals": "unblock",
        "rootless.process.attributes": "make_null_writable",
        "rootless.process.console": "check_holder",
        "rootless.process.program": "passed_on passed_on.<locals>.<listcomp>",
        "rootless.steps.context": "Ending.__init__",
        "rootless.steps.program":
            "Execute.__init__ Execute.execute Execute.execute.<locals>.<listcomp> SetEnvironment.__init__ "
            "SetEnvironment.execute SetEnvironment.execute.<locals>.<dictcomp> "
            "SetEnvironment.execute.<locals>.<genexpr> run_program",
    },
    "create run exec delete launcher": {
        "rootless.cgroup": "_wanted",
        "rootless.log": "debug",
    },
    "create run exec launcher": {
        "rootless.config_node":
            "Node.__bool__ Node.__getitem__ Node.__init__ Node.boolean Node.choice Node.integer Node.items "
            "Node.items.<locals>.<listcomp> Node.required Node.string Node.strings Node.strings.<locals>.<listcomp>",
        "rootless.kernel.caps":
            "<dictcomp> _check_subset _read_set all_capabilities apply_bounding apply_bounding.<locals>.<listcomp> "
            "apply_capabilities grantable grantable.<locals>.<genexpr> last_cap names names.<locals>.<dictcomp> "
            "names.<locals>.<listcomp> read_capabilities read_capabilities.<locals>.<dictcomp>",
        "rootless.kernel.channel": "pair",
        "rootless.kernel.child": "_unblock clone",
        "rootless.kernel.files": "make_program seal",
        "rootless.kernel.find_program": "search",
        "rootless.kernel.host":
            "Host.__init__ Host.all_capabilities Host.grantable Host.hard_limit Host.hard_limits Host.in_userns "
            "Host.is_root_here Host.is_root_on_host Host.uid Host.uid_map effective_capabilities fact.__get__ "
            "fact.__init__ read_id_map read_id_map.<locals>.<genexpr> read_id_map.<locals>.<listcomp>",
        "rootless.kernel.namespaces": "<dictcomp>",
        "rootless.kernel.paths": "normal_path",
        "rootless.kernel.proc": "open_proc",
        "rootless.kernel.sockets": "pair",
        "rootless.kernel.syscalls":
            "_Char _Int _buffer capget capset capset.<locals>.<genexpr> clone3 close_range drop_from_bounding_set "
            "fstatfs_type join_session_keyring keyctl name_process prctl prlimit setgroups setresgid setresuid "
            "syscall syscall.<locals>.<genexpr>",
        "rootless.plan.process":
            "_check_mapped _check_mapped.<locals>.<genexpr> _read_env _read_scheduling _read_size _read_user "
            "compile_domain compile_process keeps_groups",
        "rootless.plan.seccomp": "compile_seccomp",
        "rootless.process.attributes": "join_keyring try_chdir",
        "rootless.process.program":
            "_home_of check_cwd close_all_but forget_imports forget_imports.<locals>.<listcomp> look_up "
            "look_up.<locals>.<genexpr> restore_handlers restore_signals set_home set_home.<locals>.<genexpr> "
            "set_home.<locals>.<listcomp>",
        "rootless.process.rlimits": "<dictcomp> _check_start apply_rlimit check_rlimits read_rlimits",
        "rootless.runtime.interpreter": "_execute_copy _mapped _mapped.<locals>.<genexpr> _sealed protect writable",
        "rootless.startup.lean_os": "fsencode",
        "rootless.steps": "Step.__init__ execute",
        "rootless.steps.context": "Becoming.__init__",
        "rootless.steps.process":
            "ChangeUser.__init__ ChangeUser.execute EnterWorkingDirectory.__init__ EnterWorkingDirectory.execute "
            "Process.__init__ Process.steps Process.steps.<locals>.<genexpr> Process.through_proc "
            "Process.through_proc.<locals>.<genexpr> SetCapabilities.__init__ SetCapabilities.execute "
            "SetNoNewPrivs.execute SetRlimit.__init__ SetRlimit.execute SetUmask.__init__ SetUmask.execute "
            "User.__init__",
    },
    "create run exec start": {
        "rootless.kernel.channel": "_receive_one receive",
        "rootless.kernel.sockets": "receive_fds",
        "rootless.runtime.lock": "Lock.take",
    },
    "create run exec start delete": {
        "rootless.kernel.files": "close_at_last",
        "rootless.kernel.proc": "own_identity",
        "rootless.runtime.container": "Container.close",
        "rootless.runtime.lock": "Lock._write_note Lock.give_up",
        "rootless.runtime.state": "StateDir.close StateDir.close_copy",
    },
    "create run exec start delete launcher": {
        "rootless.kernel.files": "write_at_once",
    },
    "create run exec start launcher": {
        "rootless.kernel.channel": "send",
        "rootless.log": "debugging",
    },
    "create run exec start state kill delete": {
        "rootless.__main__": "_configure_log _module _open_standard_streams _run launcher main",
        "rootless.cgroup": "open",
        "rootless.cgroup.driver": "Cgroup.__init__ Cgroup.directory_fd Cgroup.path",
        "rootless.cgroup.tree": "read_file",
        "rootless.cli.containers": "enter_state_root state_root",
        "rootless.cli.options":
            "<genexpr> <listcomp> Options.__init__ _read_flags _set _set_defaults parse parse_global",
        "rootless.cli.setting_flags": "<genexpr>",
        "rootless.kernel.proc": "start_time",
        "rootless.log": "configure",
        "rootless.runtime.container": "Container.__init__ Container.pid",
        "rootless.runtime.lock": "Lock.__init__",
        "rootless.runtime.state": "StateDir.__init__ _check_owner _open_own check_id open_root",
        "rootless.startup.jsonlite": "loads",
        "rootless.startup.lean_path": "abspath",
    },
    "create run exec start state kill delete launcher": {
        "rootless": "__getattr__",
        "rootless.startup.lean_os": "<dictcomp> fsdecode",
        "rootless.startup.lean_path": "normpath",
    },
    "create run exec state delete": {
        "rootless.runtime.container": "Container.container_id",
    },
    "create run launcher": {
        "rootless.cgroup": "_compile_resources _compile_resources.<locals>.<listcomp> _settle compile settle",
        "rootless.cgroup.place":
            "_below _delegated _delegated.<locals>.<genexpr> _directory _is_delegated _is_triple _scope can_be_made "
            "candidates candidates.<locals>.<genexpr> session usable",
        "rootless.config_node": "Node.members Node.string_map Node.string_map.<locals>.<dictcomp> Node.uint32",
        "rootless.errors": "advice advice.<locals>.<genexpr> printable",
        "rootless.kernel.caps": "_union guard",
        "rootless.kernel.cgroup_view": "View.__init__ own read",
        "rootless.kernel.devices": "host_path",
        "rootless.kernel.host":
            "Host.cgroup_mount Host.cgroup_view Host.gid Host.is_directory Host.own_cgroup Host.tries_cgroups "
            "read_cgroup_view",
        "rootless.kernel.loopback": "loopback_up",
        "rootless.kernel.namespaces":
            "Namespaces.__init__ Namespaces.has Namespaces.joins_one Namespaces.joins_one.<locals>.<genexpr> "
            "Namespaces.needs_joiner",
        "rootless.kernel.paths": "is_below tidy_path tidy_path.<locals>.<genexpr>",
        "rootless.kernel.syscalls":
            "fail fsconfig fsmount fsopen mount mount.<locals>.<listcomp> mount_setattr move_mount open_in_root "
            "open_tree openat2 pinned pivot_root sethostname umount2 unshare",
        "rootless.kernel.units": "parse_numbers read_numbers",
        "rootless.plan.call": "Call.__init__",
        "rootless.plan.compiler":
            "Plan.__init__ Plan.hands_over_cgroup Plan.hands_over_cgroup.<locals>.<genexpr> Plan.mounts "
            "Plan.mounts.<locals>.<listcomp> _annotation_warnings _annotation_warnings.<locals>.<genexpr> "
            "_check_version_and_platform _compile_cgroup _compile_enter _compile_init "
            "_compile_init.<locals>.<listcomp> _compile_label _compile_mounts _compile_mounts.<locals>.<genexpr> "
            "_compile_name_files _compile_net_devices _compile_network _compile_resctrl _mount_context check_version "
            "check_version.<locals>.<genexpr> compile",
        "rootless.plan.devices":
            "compile_devices compile_devices.<locals>.<genexpr> compile_devices.<locals>.<listcomp> "
            "compile_devices.<locals>.<setcomp>",
        "rootless.plan.hooks": "compile_hooks compile_hooks.<locals>.<genexpr>",
        "rootless.plan.mounts":
            "_check_proc_and_sys _combine _compile_mount _compile_mount.<locals>.<genexpr> _read_option "
            "check_overlap check_overlap.<locals>.<genexpr> compile_mounts compile_mounts.<locals>.<listcomp> "
            "complete_overlays read_mappings",
        "rootless.plan.namespaces":
            "_check_permitted _read_maps _read_time_offsets compile_namespaces "
            "compile_namespaces.<locals>.<listcomp>",
        "rootless.plan.paths": "_read_paths compile_paths compile_paths.<locals>.<dictcomp>",
        "rootless.plan.root": "compile_propagation compile_root",
        "rootless.plan.sysctl": "compile_names compile_sysctl",
        "rootless.process.attributes": "become_root become_root.<locals>.<genexpr>",
        "rootless.startup.lean_path": "_mode basename dirname exists isdir",
        "rootless.steps.builder":
            "RootBuilder.__init__ RootBuilder.apply_late_readonly RootBuilder.is_at RootBuilder.make_private "
            "RootBuilder.own_netns RootBuilder.tty_group_mapped RootBuilder.tty_group_mapped.<locals>.<genexpr> "
            "is_same_file",
        "rootless.steps.cgroup": "CreateCgroup.__init__",
        "rootless.steps.context": "Init.__init__ Prepared.__init__",
        "rootless.steps.devices":
            "AttachDevice BindDevice.execute Device.__init__ Device.rdev Link.__init__ Link.execute "
            "MakeDevice.execute _bind_device",
        "rootless.steps.file_systems":
            "MountFileSystem.execute _copy_up_source _make_file_system _mount_file_system _set_context _with_mode "
            "_with_mode.<locals>.<genexpr> empty_tmpfs",
        "rootless.steps.masks":
            "MakePathReadonly.__init__ MakePathReadonly.execute MaskPath.__init__ MaskPath.execute _open_covered",
        "rootless.steps.mount_flags": "_set_attributes map_ids set_mount_flags",
        "rootless.steps.mounts": "ATTRIBUTES Mount.__init__ MountOptions.__init__",
        "rootless.steps.names": "SetDomainname SetHostname.__init__ SetHostname.execute",
        "rootless.steps.namespaces": "make_cgroup_namespace",
        "rootless.steps.places":
            "_make_new_file attach_node attach_rootfs check_place check_plain is_root make_directory",
        "rootless.steps.root":
            "AttachRootfs.__init__ AttachRootfs.execute MakeRootReadonly.execute MakeWorkingDirectory.__init__ "
            "MakeWorkingDirectory.execute PivotRoot.__init__ PivotRoot.execute SetPropagation.__init__ "
            "SetPropagation.execute _exchange_roots open_dev_null",
    },
    "create run start": {
        "rootless.kernel.sockets": "address_at create",
    },
    "create run start delete": {
        "rootless.runtime.state": "StateDir.unlink",
    },
    "create run state": {
        "rootless.kernel.files": "write_all",
        "rootless.startup.jsonlite": "dumps dumps.<locals>.<listcomp>",
    },
    "create run state delete": {
        "rootless.runtime.container": "Container.report",
    },
    "delete": {
        "rootless.cgroup.driver":
            "Cgroup._remove_tree Cgroup._remove_tree.<locals>.<lambda> Cgroup.keyed Cgroup.keyed.<locals>.<dictcomp> "
            "Cgroup.keyed.<locals>.<genexpr> Cgroup.kill Cgroup.procs Cgroup.procs.<locals>.<lambda> Cgroup.write "
            "Cgroup.write.<locals>.<lambda>",
        "rootless.cgroup.freezer": "_open_events wait_for_event wait_until_empty",
        "rootless.cgroup.tree":
            "list_below list_below.<locals>.<listcomp> remove_below remove_below.<locals>.<genexpr>",
        "rootless.cli.commands.delete": "main",
        "rootless.kernel.waiting": "milliseconds wait_for",
        "rootless.runtime.delete": "_await_ending delete end load_by_force",
        "rootless.runtime.kill": "kill_all",
        "rootless.runtime.lock": "Lock.take_by_force _wait",
        "rootless.runtime.state": "StateDir.noted_init",
    },
    "exec": {
        "rootless.cgroup.driver": "Cgroup.join_fd",
        "rootless.cli.commands.exec": "main main.<locals>.<genexpr>",
        "rootless.kernel.channel": "_await_message",
        "rootless.kernel.host": "read_setgroups",
        "rootless.kernel.syscalls": "setns",
        "rootless.process.program": "prepare_seccomp",
        "rootless.runtime.container": "Container.config",
        "rootless.runtime.exec":
            "ExecRequest.__init__ RunningContainer.__init__ RunningContainer._differs Spawned.__init__ Spawned.reap "
            "Task.__init__ Task.emulate Task.last _Gate.__init__ _Gate.wait _await_verdict _become "
            "_become.<locals>.<genexpr> _cgroup_fd _clone_joiner _clone_joiner.<locals>.join _compile _derive _join "
            "_log_for_runcs_suite _require _task compile_process_of exec_in spawn",
        "rootless.runtime.joiner": "await_child",
    },
    "exec launcher": {
        "rootless.kernel.sockets": "send_fds send_message",
    },
    "exec start state kill": {
        "rootless.cli.containers": "load",
        "rootless.runtime.container": "load",
    },
    "exec start state kill delete": {
        "rootless.cgroup.driver": "Cgroup.read Cgroup.read.<locals>.<lambda>",
        "rootless.cgroup.freezer": "is_frozen",
        "rootless.cgroup.tree": "retry_as_range_root",
        "rootless.cli.containers": "name_of",
        "rootless.runtime.container": "Container.cgroup_path Container.status",
        "rootless.runtime.state": "StateDir.open StateDir.read",
    },
    "kill": {
        "rootless.cli.commands.kill": "main",
        "rootless.kernel.signals": "parse_signal",
        "rootless.runtime.kill": "kill",
    },
    "kill delete": {
        "rootless.kernel.proc": "open_pidfd",
        "rootless.runtime.kill": "send",
    },
    "launcher": {
        "oci.config": "default_config default_mounts",
        "rootless.api.clones":
            "_clone_init _clone_init.<locals>.live _make_cgroup clone_container is_pid1 read_call "
            "read_call.<locals>.<listcomp> receive_call restores_signals",
        "rootless.api.first_container":
            "FirstContainer.__init__ FirstContainer._clone FirstContainer._clone.<locals>.<lambda> "
            "FirstContainer.clone FirstContainer.close _is_local _is_local.<locals>.<listcomp> prepare",
        "rootless.api.launcher":
            "Launcher.__init__ Launcher._expect Launcher._finish Launcher._forget Launcher._is_asked "
            "Launcher._is_asked.<locals>.<genexpr> Launcher._is_idle Launcher._is_idle.<locals>.<genexpr> "
            "Launcher._load Launcher._read Launcher._reserve Launcher._run Launcher._run_first "
            "Launcher._seconds_left Launcher._seconds_left.<locals>.<listcomp> Launcher._serve "
            "Launcher._serve_announced Launcher._take_request Launcher._tell_end Launcher._watch Launcher.end_all "
            "Launcher.serve main",
        "rootless.api.plans":
            "Compiled.__init__ Compiled.__init__.<locals>.<genexpr> Compiled._prepare "
            "Compiled._prepare.<locals>.<genexpr> Compiled.is_outdated Plans.__init__ Plans.find _may_share "
            "_needs_runtime _needs_runtime.<locals>.<genexpr> _read_root _takes_scope can_spawn "
            "can_spawn.<locals>.<genexpr> can_spawn.<locals>.<listcomp> can_spawn.<locals>.<listcomp>.<genexpr> "
            "compile_settings compile_settings.<locals>.<genexpr>",
        "rootless.api.running": "Own.__init__ Own.leave Running.__init__ Running.kill",
        "rootless.api.seen": "_status find_points find_points.<locals>.<genexpr> look look.<locals>.<listcomp>",
        "rootless.api.spares":
            "Spare.__init__ Spares.__init__ Spares._is_outdated Spares._make Spares.count Spares.end_old "
            "Spares.forget Spares.refill Spares.seconds_left Spares.seconds_left.<locals>.<genexpr> Spares.take "
            "find_places may_wait may_wait.<locals>.<genexpr>",
        "rootless.api.wire": "_send pack_end receive send",
        "rootless.api.worker":
            "_Work.__init__ _Work._clone _Work._clone.<locals>.<lambda> _Work._recordings _Work.serve _load_code "
            "main",
        "rootless.api.workers":
            "Request.__init__ Worker.__init__ Workers.__init__ Workers._end Workers._give Workers._greet "
            "Workers._hang Workers._hang.<locals>.<genexpr> Workers._is_busy Workers._start Workers._start_all "
            "Workers._start_one Workers._start_one.<locals>.live "
            "Workers._start_one.<locals>.live.<locals>.<listcomp> Workers.are_full "
            "Workers.are_full.<locals>.<genexpr> Workers.end_all Workers.end_idle Workers.finish "
            "Workers.has_answered Workers.note_missed Workers.prepare Workers.seconds_left Workers.take "
            "Workers.take_back Workers.working Workers.working.<locals>.<genexpr>",
        "rootless.init.launched":
            "Call.__init__ Call.__init__.<locals>.<listcomp> Life.__init__ _become_program _become_root "
            "_become_root.<locals>.<genexpr> _become_user _become_user.<locals>.<genexpr> "
            "_become_user.<locals>.<lambda> _become_user.<locals>.<listcomp> _change_root _die_with _leave_launcher "
            "_look_up _look_up.<locals>.<genexpr> _place_passed _place_passed.<locals>.<genexpr> _set_up "
            "_spawn_program _spawn_program.<locals>.<genexpr> _spawn_program.<locals>.<listcomp> _take_attributes "
            "_take_streams main start_program start_program.<locals>.<lambda>",
        "rootless.init.reaper": "<listcomp> _end_all _reap_ended block_all hide_arguments reap shut_out",
        "rootless.init.small_init":
            "elf_file is_executed is_known open_program program program.<locals>.<genexpr> take_fds "
            "take_fds.<locals>.<listcomp>",
        "rootless.kernel.caps": "keeps_out may_trace",
        "rootless.kernel.host": "default_id_map",
        "rootless.kernel.mountinfo": "Mount.__init__ _unescape parse read",
        "rootless.kernel.proc": "own_arguments",
        "rootless.kernel.recording":
            "Recording.__init__ Recording._record Recording._record.<locals>.<genexpr> Recording.run _Calls.__init__ "
            "_Calls.__init__.<locals>.<dictcomp> _Calls._made _Calls._want_number _Calls._watch_unknown _Calls.add "
            "_Calls.closed _Calls.fd _Calls.guard _Calls.guard_bytes _Calls.guard_other _Calls.opened _Calls.put "
            "_Calls.record _Calls.text _Device.__eq__ _Device.__init__ _Entry.__init__ _Entry.packed _Os.__init__ "
            "_Os._ask _Os._ask.<locals>.<lambda> _Os._read _Os._record _Os.chdir _Os.chdir.<locals>.<lambda> "
            "_Os.chmod _Os.chmod.<locals>.<lambda> _Os.close _Os.close.<locals>.<lambda> _Os.dup "
            "_Os.dup.<locals>.<lambda> _Os.fchdir _Os.fchdir.<locals>.<lambda> _Os.fstat _Os.fstat.<locals>.<lambda> "
            "_Os.mkdir _Os.mkdir.<locals>.<lambda> _Os.open _Os.open.<locals>.<lambda> _Os.readlink "
            "_Os.readlink.<locals>.<lambda> _Os.removexattr _Os.removexattr.<locals>.<lambda> _Os.setsid "
            "_Os.setxattr _Os.setxattr.<locals>.<lambda> _Os.stat _Os.stat.<locals>.<lambda> _Os.symlink "
            "_Os.symlink.<locals>.<lambda> _Os.umask _Os.umask.<locals>.<lambda> _Os.write "
            "_Os.write.<locals>.<lambda> _Path.__init__ _Status.__getattr__ _Status.__init__ load_code",
        "rootless.kernel.syscalls":
            "_Callback address_of c_function callback find_in_root number number_at number_of pass_through "
            "seccomp_load write_memory",
        "rootless.kernel.vfork":
            "Vfork.__init__ Vfork._enter Vfork._enter.<locals>.<listcomp> Vfork.clone _Context.__init__ "
            "_Context.make _Context.make.<locals>.<listcomp> _map_stack _pointers _pointers.<locals>.<genexpr> "
            "is_possible",
        "rootless.plan.change":
            "Change.__init__ Change.array Change.part Settings.__init__ _default copy copy.<locals>.<dictcomp> "
            "copy.<locals>.<listcomp>",
        "rootless.plan.network": "apply_network apply_network.<locals>.<listcomp>",
        "rootless.plan.settings": "_apply_network _give_names _give_names.<locals>.<genexpr> apply_settings",
        "rootless.process.attributes": "keyring_of own_stdio",
        "rootless.process.child_options":
            "ChildOptions.__init__ ChildOptions.apply ChildOptions.for_spawn ChildOptions.ignore_signals "
            "ChildOptions.look_up ChildOptions.look_up.<locals>.<genexpr>",
        "rootless.process.seccomp": "prepare.<locals>.load",
        "rootless.steps.binds":
            "BindMount.execute _bind _bind_target _check_source _clone_tree _copy_link _open_source",
        "rootless.steps.builder":
            "RootBuilder.close_for_writing RootBuilder.enter RootBuilder.new_pidns RootBuilder.open_for_writing",
        "rootless.steps.file_systems": "_is_too_long _mount_by_name _mount_by_name.<locals>.<genexpr>",
        "rootless.steps.mount_flags": "set_id_map",
        "rootless.steps.root": "AttachEmptyRoot.execute",
        "rootless.steps.upper":
            "_make_tmpfs _require_attributes mount_upper mount_upper.<locals>.<genexpr> "
            "mount_upper.<locals>.<listcomp>",
        "rootless.userns.idmap": "default_maps",
        "rootless.userns.mount_userns": "make_userns.<locals>.hold",
    },
    "run": {
        "rootless.cli.commands.run": "_is_anothers _of_bundle _of_image main read_run_request",
        "rootless.kernel.signals": "_raise end_on_signals",
        "rootless.plan.namespaces": "has_one_id has_one_id.<locals>.<genexpr>",
        "rootless.runtime.delete": "remove_after",
        "rootless.runtime.foreground": "adopt be_ready be_ready_with_hooks",
        "rootless.runtime.run": "_Ahead.__call__ _Ahead.__init__ _start _wait run",
    },
    "run delete": {
        "rootless.cgroup.driver": "Cgroup.close Cgroup.remove Cgroup.remove.<locals>.<genexpr>",
        "rootless.cgroup.tree": "remove_directories",
        "rootless.runtime.delete":
            "_poststop_hooks _undo_host_side_effects _undo_host_side_effects.<locals>.<genexpr> remove",
        "rootless.runtime.state": "StateDir._empty StateDir._read_link StateDir.names StateDir.noted StateDir.remove",
    },
    "run exec": {
        "rootless.runtime.container": "Container.watch_oom Container.watch_oom.<locals>.<genexpr>",
        "rootless.runtime.escalation": "Escalation.__init__ Escalation.look Escalation.timeout",
        "rootless.runtime.foreground": "_loop _only_wake exit_code listen wait",
    },
    "run exec delete": {
        "rootless.cgroup.driver": "Cgroup.gone",
    },
    "run exec launcher": {
        "rootless.process.attributes": "die_with_parent",
    },
    "run exec start": {
        "rootless.runtime.verdict": "await_exec connect_agent",
    },
    "run exec start state kill delete": {
        "rootless.kernel.proc": "alive",
        "rootless.runtime.container": "Container.alive Container.cgroup Container.cgroup_record",
        "rootless.runtime.state": "StateDir.has",
    },
    "run launcher": {
        "rootless.kernel.host":
            "Host.subgid Host.subgid.<locals>.<lambda> Host.subuid Host.subuid.<locals>.<lambda> Host.user_name "
            "_read _user_name read_subids read_subids.<locals>.<listcomp>",
    },
    "run start": {
        "rootless.kernel.sockets": "connect_at",
        "rootless.runtime.start": "connect start",
    },
    "run start delete": {
        "rootless.runtime.container": "Container.hooks",
    },
    "start": {
        "rootless.cli.commands.start": "main",
        "rootless.runtime.start": "start_or_end",
    },
    "start delete": {
        "rootless.runtime.container": "Container.__enter__ Container.__exit__",
    },
    "start kill": {
        "rootless.runtime.container": "Container.require",
    },
    "state": {
        "rootless.cli.commands.state": "main owner_name",
        "rootless.kernel.files": "write_out",
    },
}
