"""List what each hot command and the launcher call, and what else they look for, by module.

The code caches hold these. Any other function is loaded at its first call (leancode.py), any other class or table
when it is looked for (linking.py), which takes some 20 microseconds more. `make called` writes this file
(scripts/called.py). It is not read while a command's cache is valid.
"""

# fmt: off
CALLED: dict[str, dict[str, str]] = {
    "create": {
        "rootless": "__getattr__",
        "rootless.__main__": "_configure_log _module _open_standard_streams _run launcher main",
        "rootless.cgroup":
            "_compile_resources _compile_resources.<locals>.<listcomp> _settle _wanted check_limits compile open "
            "settle",
        "rootless.cgroup.driver":
            "Cgroup.__init__ Cgroup._configure Cgroup._controllers Cgroup._make_directories Cgroup._required "
            "Cgroup.create Cgroup.directory_fd Cgroup.fd Cgroup.missing Cgroup.note_identity Cgroup.path",
        "rootless.cgroup.place":
            "_below _delegated _delegated.<locals>.<genexpr> _directory _is_delegated _is_triple _scope can_be_made "
            "candidates candidates.<locals>.<genexpr> session usable",
        "rootless.cgroup.tree": "_switch_on _switch_on.<locals>.<genexpr> enable make_directory read_file write_file",
        "rootless.cli.commands.create": "main",
        "rootless.cli.containers": "enter_state_root state_root",
        "rootless.cli.options":
            "<genexpr> <listcomp> Options.__init__ _read_flags _set _set_defaults parse parse_global",
        "rootless.cli.requests": "_cgroup_manager _change_config make_request read_request",
        "rootless.cli.setting_flags": "<genexpr>",
        "rootless.config_node":
            "Node.__bool__ Node.__getitem__ Node.__init__ Node.boolean Node.choice Node.integer Node.items "
            "Node.items.<locals>.<listcomp> Node.members Node.required Node.string Node.string_map "
            "Node.string_map.<locals>.<dictcomp> Node.strings Node.strings.<locals>.<listcomp> Node.uint32",
        "rootless.errors": "RootlessError advice advice.<locals>.<genexpr> printable",
        "rootless.init":
            "_accept _await_runtime _become_root _become_user _become_user.<locals>.<listcomp> _die_with_runtime "
            "_leave _look_up_program _say_nothing _wait_for_start _wait_for_start.<locals>.<genexpr> main",
        "rootless.kernel.caps":
            "<dictcomp> _check_subset _read_set _union all_capabilities apply_bounding apply_capabilities grantable "
            "grantable.<locals>.<genexpr> guard last_cap names names.<locals>.<dictcomp> names.<locals>.<listcomp> "
            "read_capabilities read_capabilities.<locals>.<dictcomp>",
        "rootless.kernel.cgroup_view": "View.__init__ own read",
        "rootless.kernel.channel": "_receive_one pair receive send",
        "rootless.kernel.child": "_unblock clone",
        "rootless.kernel.devices": "host_path",
        "rootless.kernel.files": "close_at_last read_at_most write_all write_at write_at_once",
        "rootless.kernel.find_program": "search",
        "rootless.kernel.host":
            "Host.__init__ Host.all_capabilities Host.cgroup_mount Host.cgroup_view Host.gid Host.grantable "
            "Host.hard_limit Host.hard_limits Host.in_userns Host.is_directory Host.is_root_here "
            "Host.is_root_on_host Host.own_cgroup Host.tries_cgroups Host.uid Host.uid_map effective_capabilities "
            "fact.__get__ fact.__init__ read_cgroup_view read_id_map read_id_map.<locals>.<genexpr> "
            "read_id_map.<locals>.<listcomp>",
        "rootless.kernel.loopback": "loopback_up",
        "rootless.kernel.namespaces":
            "<dictcomp> Namespaces.__init__ Namespaces.has Namespaces.joins_one "
            "Namespaces.joins_one.<locals>.<genexpr> Namespaces.needs_joiner",
        "rootless.kernel.paths": "is_below normal_path tidy_path tidy_path.<locals>.<genexpr>",
        "rootless.kernel.proc": "open_proc own_identity start_time",
        "rootless.kernel.signals": "block unblock",
        "rootless.kernel.sockets": "address_at create pair receive_fds",
        "rootless.kernel.syscalls":
            "_Char _Int _buffer capget capset clone3 close_range fail fsconfig fsmount fsopen fstatfs_type "
            "join_session_keyring keyctl mount mount_setattr move_mount name_process open_in_root open_tree openat2 "
            "pinned pivot_root prctl prlimit setgroups sethostname setresgid setresuid syscall "
            "syscall.<locals>.<genexpr> umount2 unshare",
        "rootless.kernel.units": "parse_numbers read_numbers",
        "rootless.log": "configure debug debugging rfc3339",
        "rootless.plan.call": "Call.__init__",
        "rootless.plan.compiler":
            "Plan.__init__ Plan.hands_over_cgroup Plan.hands_over_cgroup.<locals>.<genexpr> Plan.last Plan.mounts "
            "Plan.mounts.<locals>.<listcomp> Plan.outside Plan.outside.<locals>.<listcomp> Plan.waits_for_runtime "
            "_annotation_warnings _annotation_warnings.<locals>.<genexpr> _check_version_and_platform "
            "_compile_cgroup _compile_enter _compile_init _compile_init.<locals>.<listcomp> _compile_label "
            "_compile_mounts _compile_mounts.<locals>.<genexpr> _compile_name_files _compile_net_devices "
            "_compile_network _compile_resctrl _mount_context check_version check_version.<locals>.<genexpr> compile",
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
        "rootless.plan.process":
            "_check_mapped _check_mapped.<locals>.<genexpr> _read_env _read_scheduling _read_size _read_user "
            "compile_domain compile_process keeps_groups",
        "rootless.plan.root": "compile_propagation compile_root",
        "rootless.plan.seccomp": "compile_seccomp",
        "rootless.plan.sysctl": "compile_names compile_sysctl",
        "rootless.process.attributes":
            "become_root become_root.<locals>.<genexpr> join_keyring make_null_writable try_chdir",
        "rootless.process.console": "check_holder",
        "rootless.process.hooks": "HookContext.__init__",
        "rootless.process.program":
            "_home_of check_cwd close_all_but forget_imports forget_imports.<locals>.<listcomp> look_up "
            "look_up.<locals>.<genexpr> passed_on passed_on.<locals>.<listcomp> restore_handlers restore_signals "
            "set_home set_home.<locals>.<genexpr> set_home.<locals>.<listcomp>",
        "rootless.process.rlimits": "<dictcomp> _check_start apply_rlimit check_rlimits read_rlimits",
        "rootless.runtime.bundle":
            "Bundle.__init__ CreateRequest.__init__ CreateRequest.needs_helpers CreateRequest.needs_monitor "
            "CreateRequest.wants_terminal find_bundle load_bundle open_bundle parse_config read_config",
        "rootless.runtime.container":
            "Container.__init__ Container.close Container.container_id Container.pid Container.report Container.save",
        "rootless.runtime.create":
            "Created.__init__ Creation.__init__ Creation._bind_notify_socket Creation._follow_setup "
            "Creation._make_cgroup Creation._open_hook_streams Creation._prepare_mounts "
            "Creation._prepare_mounts.<locals>.<listcomp> Creation._record_host_side_effects Creation.clone "
            "Creation.clone.<locals>.<listcomp> Creation.clone_init Creation.clone_init.<locals>.leave_runtime "
            "Creation.clone_init.<locals>.live Creation.execute Creation.follow Creation.prepare _listen "
            "_passed_sockets _possible_maps _warn compile_plan create first_state note_made_cgroup "
            "note_planned_cgroup",
        "rootless.runtime.interpreter": "_execute_copy _mapped _mapped.<locals>.<genexpr> _sealed protect writable",
        "rootless.runtime.lock": "Lock.__init__ Lock._write_note Lock.give_up Lock.take",
        "rootless.runtime.state":
            "StateDir.__init__ StateDir._link StateDir.close StateDir.close_copy StateDir.make StateDir.note_cgroup "
            "StateDir.note_init StateDir.rename StateDir.unlink StateDir.write _check_owner _make_root _open_own "
            "check_id open_root",
        "rootless.startup.jsonlite": "dumps dumps.<locals>.<listcomp> loads",
        "rootless.startup.lean_os": "<dictcomp> fsdecode fsencode",
        "rootless.startup.lean_path": "_mode abspath basename dirname exists isdir normpath",
        "rootless.steps": "Step.__init__ execute",
        "rootless.steps.binds": "BindMount",
        "rootless.steps.builder":
            "RootBuilder.__init__ RootBuilder.apply_late_readonly RootBuilder.make_private RootBuilder.own_netns "
            "RootBuilder.tty_group_mapped RootBuilder.tty_group_mapped.<locals>.<genexpr>",
        "rootless.steps.cgroup": "CreateCgroup.__init__ CreateCgroup.execute",
        "rootless.steps.context": "Becoming.__init__ Ending.__init__ Init.__init__ Prepared.__init__",
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
        "rootless.steps.namespaces":
            "CloneNamespaces.__init__ CloneNamespaces.execute WriteIdMaps.__init__ WriteIdMaps.execute "
            "make_cgroup_namespace namespace_steps time_steps",
        "rootless.steps.places":
            "attach_node attach_rootfs check_place check_plain is_same_place make_directory make_file",
        "rootless.steps.process":
            "ChangeUser.__init__ ChangeUser.execute EnterWorkingDirectory.__init__ EnterWorkingDirectory.execute "
            "Process.__init__ Process.steps Process.steps.<locals>.<genexpr> Process.through_proc "
            "Process.through_proc.<locals>.<genexpr> SetCapabilities.__init__ SetCapabilities.execute "
            "SetNoNewPrivs.execute SetRlimit.__init__ SetRlimit.execute SetUmask.__init__ SetUmask.execute "
            "User.__init__",
        "rootless.steps.program":
            "Execute.__init__ Execute.execute Execute.execute.<locals>.<listcomp> SetEnvironment.__init__ "
            "SetEnvironment.execute SetEnvironment.execute.<locals>.<dictcomp> "
            "SetEnvironment.execute.<locals>.<genexpr> run_program",
        "rootless.steps.root":
            "AttachRootfs.__init__ AttachRootfs.execute MakeRootReadonly.execute MakeWorkingDirectory.__init__ "
            "MakeWorkingDirectory.execute PivotRoot.__init__ PivotRoot.execute SetPropagation.__init__ "
            "SetPropagation.execute _exchange_roots open_dev_null",
        "rootless.userns.idmap": "_is_own _write_single _write_text write_map write_map.<locals>.<genexpr> write_maps",
    },
    "run": {
        "rootless": "__getattr__",
        "rootless.__main__": "_configure_log _module _open_standard_streams _run launcher main",
        "rootless.cgroup": "<listcomp> _compile_resources _settle _wanted check_limits compile open settle",
        "rootless.cgroup.driver":
            "<genexpr> Cgroup Cgroup.__init__ Cgroup._configure Cgroup._controllers Cgroup._make_directories "
            "Cgroup._required Cgroup.close Cgroup.create Cgroup.directory_fd Cgroup.fd Cgroup.gone Cgroup.missing "
            "Cgroup.note_identity Cgroup.path Cgroup.remove Cgroup.remove.<locals>.<genexpr> __init__ _configure "
            "_controllers _make_directories _required close create directory_fd fd gone missing note_identity path "
            "remove",
        "rootless.cgroup.place":
            "_below _delegated _delegated.<locals>.<genexpr> _directory _is_delegated _is_triple _scope can_be_made "
            "candidates candidates.<locals>.<genexpr> session usable",
        "rootless.cgroup.tree": "enable make_directory read_file remove_directories",
        "rootless.cli.commands.run": "_is_anothers _of_bundle _of_image main read_run_request",
        "rootless.cli.containers": "enter_state_root state_root",
        "rootless.cli.options":
            "<genexpr> <listcomp> Options Options.__init__ __init__ _read_flags _set _set_defaults parse "
            "parse_global",
        "rootless.cli.requests": "_cgroup_manager _change_config make_request",
        "rootless.cli.setting_flags": "<genexpr>",
        "rootless.config_node":
            "<dictcomp> <listcomp> Node Node.__bool__ Node.__getitem__ Node.__init__ Node.boolean Node.choice "
            "Node.integer Node.items Node.items.<locals>.<listcomp> Node.members Node.required Node.string "
            "Node.string_map Node.string_map.<locals>.<dictcomp> Node.strings Node.strings.<locals>.<listcomp> "
            "Node.uint32 __bool__ __getitem__ __init__ boolean choice integer items members required string "
            "string_map strings uint32",
        "rootless.errors": "<genexpr> RootlessError advice printable",
        "rootless.init":
            "<genexpr> <listcomp> _accept _await_runtime _become_root _become_user _become_user.<locals>.<listcomp> "
            "_die_with_runtime _leave _look_up_program _say_nothing _wait_for_start "
            "_wait_for_start.<locals>.<genexpr> main",
        "rootless.kernel.caps":
            "<dictcomp> <genexpr> <listcomp> _check_subset _read_set _union all_capabilities apply_bounding "
            "apply_capabilities grantable guard last_cap names names.<locals>.<dictcomp> names.<locals>.<listcomp> "
            "read_capabilities read_capabilities.<locals>.<dictcomp>",
        "rootless.kernel.cgroup_view": "View View.__init__ __init__ own read",
        "rootless.kernel.channel": "_receive_one pair receive send",
        "rootless.kernel.child": "_unblock clone",
        "rootless.kernel.devices": "host_path",
        "rootless.kernel.files": "close_at_last read_at_most write_all write_at write_at_once",
        "rootless.kernel.find_program": "search",
        "rootless.kernel.host":
            "<genexpr> <listcomp> Host Host.__init__ Host.all_capabilities Host.cgroup_mount Host.cgroup_view "
            "Host.gid Host.hard_limit Host.hard_limits Host.in_userns Host.is_directory Host.is_root_here "
            "Host.is_root_on_host Host.own_cgroup Host.subgid Host.subgid.<locals>.<lambda> Host.subuid "
            "Host.subuid.<locals>.<lambda> Host.tries_cgroups Host.uid Host.uid_map Host.user_name __get__ __init__ "
            "_read _user_name cgroup_mount cgroup_view effective_capabilities fact fact.__get__ fact.__init__ "
            "grantable in_userns is_directory is_root_here is_root_on_host own_cgroup read_cgroup_view read_id_map "
            "read_id_map.<locals>.<genexpr> read_id_map.<locals>.<listcomp> read_subids "
            "read_subids.<locals>.<listcomp> tries_cgroups uid uid_map",
        "rootless.kernel.loopback": "loopback_up",
        "rootless.kernel.namespaces":
            "<dictcomp> <genexpr> Namespaces Namespaces.__init__ Namespaces.has Namespaces.joins_one "
            "Namespaces.joins_one.<locals>.<genexpr> Namespaces.needs_joiner __init__ has joins_one needs_joiner",
        "rootless.kernel.paths": "<genexpr> is_below normal_path tidy_path tidy_path.<locals>.<genexpr>",
        "rootless.kernel.proc": "alive open_proc own_identity start_time",
        "rootless.kernel.signals": "_raise block end_on_signals unblock",
        "rootless.kernel.sockets": "address_at connect_at create pair receive_fds",
        "rootless.kernel.syscalls":
            "<genexpr> _Char _Int _buffer capget capset clone3 close_range fail fsconfig fsmount fsopen fstatfs_type "
            "join_session_keyring keyctl map_file mount mount_setattr move_mount name_process open_in_root open_tree "
            "openat2 pinned pivot_root prctl prlimit read setgroups sethostname setresgid setresuid syscall "
            "syscall.<locals>.<genexpr> umount2 unshare",
        "rootless.kernel.units": "parse_numbers read_numbers",
        "rootless.log": "configure debug debugging rfc3339",
        "rootless.plan.call": "Call Call.__init__ __init__",
        "rootless.plan.compiler":
            "<genexpr> <listcomp> Plan Plan.__init__ Plan.hands_over_cgroup "
            "Plan.hands_over_cgroup.<locals>.<genexpr> Plan.last Plan.mounts Plan.mounts.<locals>.<listcomp> "
            "Plan.outside Plan.outside.<locals>.<listcomp> Plan.waits_for_runtime __init__ _annotation_warnings "
            "_annotation_warnings.<locals>.<genexpr> _check_version_and_platform _compile_cgroup _compile_enter "
            "_compile_init _compile_init.<locals>.<listcomp> _compile_label _compile_mounts "
            "_compile_mounts.<locals>.<genexpr> _compile_name_files _compile_net_devices _compile_network "
            "_compile_resctrl _mount_context check_version check_version.<locals>.<genexpr> compile "
            "hands_over_cgroup last mounts outside waits_for_runtime",
        "rootless.plan.devices":
            "<genexpr> <listcomp> <setcomp> compile_devices compile_devices.<locals>.<genexpr> "
            "compile_devices.<locals>.<listcomp> compile_devices.<locals>.<setcomp>",
        "rootless.plan.hooks": "<genexpr> compile_hooks compile_hooks.<locals>.<genexpr>",
        "rootless.plan.mounts":
            "<genexpr> <listcomp> _check_proc_and_sys _combine _compile_mount _compile_mount.<locals>.<genexpr> "
            "_read_option check_overlap check_overlap.<locals>.<genexpr> compile_mounts "
            "compile_mounts.<locals>.<listcomp> complete_overlays read_mappings",
        "rootless.plan.namespaces":
            "<genexpr> <listcomp> _check_permitted _read_maps _read_time_offsets compile_namespaces "
            "compile_namespaces.<locals>.<listcomp> has_one_id has_one_id.<locals>.<genexpr>",
        "rootless.plan.paths": "<dictcomp> _read_paths compile_paths compile_paths.<locals>.<dictcomp>",
        "rootless.plan.process":
            "_check_mapped _check_mapped.<locals>.<genexpr> _read_env _read_scheduling _read_size _read_user "
            "compile_domain compile_process keeps_groups",
        "rootless.plan.root": "compile_propagation compile_root",
        "rootless.plan.seccomp": "compile_seccomp",
        "rootless.plan.sysctl": "compile_names compile_sysctl",
        "rootless.process.attributes":
            "become_root become_root.<locals>.<genexpr> die_with_parent join_keyring make_null_writable try_chdir",
        "rootless.process.console": "check_holder",
        "rootless.process.hooks": "HookContext HookContext.__init__ __init__",
        "rootless.process.program":
            "<genexpr> <listcomp> _home_of check_cwd close_all_but forget_imports forget_imports.<locals>.<listcomp> "
            "look_up look_up.<locals>.<genexpr> passed_on passed_on.<locals>.<listcomp> restore_handlers "
            "restore_signals set_home set_home.<locals>.<genexpr> set_home.<locals>.<listcomp>",
        "rootless.process.rlimits": "<dictcomp> _check_start apply_rlimit check_rlimits read_rlimits",
        "rootless.runtime.bundle":
            "Bundle Bundle.__init__ CreateRequest CreateRequest.__init__ CreateRequest.wants_terminal __init__ "
            "find_bundle load_bundle parse_config read_config wants_terminal",
        "rootless.runtime.container":
            "<genexpr> Container Container.__init__ Container.alive Container.cgroup Container.cgroup_record "
            "Container.close Container.container_id Container.hooks Container.pid Container.report Container.save "
            "Container.watch_oom Container.watch_oom.<locals>.<genexpr> __init__ alive cgroup cgroup_record close "
            "container_id hooks pid report save watch_oom",
        "rootless.runtime.create":
            "<listcomp> Created Created.__init__ Creation Creation.__init__ Creation._bind_notify_socket "
            "Creation._follow_setup Creation._make_cgroup Creation._open_hook_streams Creation._prepare_mounts "
            "Creation._prepare_mounts.<locals>.<listcomp> Creation._record_host_side_effects Creation.clone "
            "Creation.clone.<locals>.<listcomp> Creation.clone_init Creation.clone_init.<locals>.leave_runtime "
            "Creation.clone_init.<locals>.live Creation.execute Creation.follow Creation.prepare __init__ "
            "_bind_notify_socket _follow_setup _listen _make_cgroup _open_hook_streams _passed_sockets "
            "_possible_maps _prepare_mounts _record_host_side_effects _warn clone clone_init compile_plan create "
            "execute first_state follow leave_runtime live note_made_cgroup note_planned_cgroup prepare",
        "rootless.runtime.delete":
            "<genexpr> _poststop_hooks _undo_host_side_effects _undo_host_side_effects.<locals>.<genexpr> remove "
            "remove_after",
        "rootless.runtime.escalation":
            "Escalation Escalation.__init__ Escalation.look Escalation.timeout __init__ look timeout",
        "rootless.runtime.foreground": "_loop _only_wake adopt be_ready be_ready_with_hooks exit_code listen wait",
        "rootless.runtime.interpreter": "_execute_copy _mapped _mapped.<locals>.<genexpr> _sealed protect writable",
        "rootless.runtime.lock":
            "Lock Lock.__init__ Lock._write_note Lock.give_up Lock.take __init__ _write_note give_up take",
        "rootless.runtime.run": "_Ahead _Ahead.__call__ _Ahead.__init__ __call__ __init__ _start _wait run",
        "rootless.runtime.start": "connect start",
        "rootless.runtime.state":
            "StateDir StateDir.__init__ StateDir._empty StateDir._link StateDir._read_link StateDir.close "
            "StateDir.close_copy StateDir.has StateDir.make StateDir.note_cgroup StateDir.note_init StateDir.noted "
            "StateDir.remove StateDir.rename StateDir.unlink StateDir.write __init__ _check_owner _empty _link "
            "_open_own _read_link check_id close close_copy has make note_cgroup note_init noted open_root remove "
            "rename unlink write",
        "rootless.runtime.verdict": "await_exec connect_agent",
        "rootless.startup.jsonlite": "<listcomp> dumps dumps.<locals>.<listcomp> loads",
        "rootless.startup.lean_os": "<dictcomp> fsdecode fsencode",
        "rootless.startup.lean_path": "_mode abspath basename dirname exists isdir normpath",
        "rootless.steps": "Step Step.__init__ __init__ execute",
        "rootless.steps.binds": "BindMount",
        "rootless.steps.builder":
            "RootBuilder RootBuilder.__init__ RootBuilder.apply_late_readonly RootBuilder.make_private "
            "RootBuilder.own_netns RootBuilder.tty_group_mapped RootBuilder.tty_group_mapped.<locals>.<genexpr> "
            "__init__ apply_late_readonly make_private own_netns tty_group_mapped",
        "rootless.steps.cgroup": "CreateCgroup CreateCgroup.__init__ CreateCgroup.execute __init__ execute",
        "rootless.steps.context":
            "Becoming Becoming.__init__ Ending Ending.__init__ Init Init.__init__ Prepared Prepared.__init__ "
            "__init__",
        "rootless.steps.devices":
            "AttachDevice BindDevice.execute Device Device.__init__ Device.rdev Link Link.__init__ Link.execute "
            "MakeDevice __init__ _bind_device execute rdev",
        "rootless.steps.file_systems":
            "<genexpr> MountFileSystem MountFileSystem.execute _copy_up_source _make_file_system _mount_file_system "
            "_set_context _with_mode _with_mode.<locals>.<genexpr> empty_tmpfs execute",
        "rootless.steps.masks":
            "MakePathReadonly MakePathReadonly.__init__ MakePathReadonly.execute MaskPath MaskPath.__init__ "
            "MaskPath.execute __init__ _open_covered execute",
        "rootless.steps.mount_flags": "_set_attributes map_ids set_mount_flags",
        "rootless.steps.mounts": "ATTRIBUTES Mount Mount.__init__ MountOptions MountOptions.__init__ __init__",
        "rootless.steps.names": "SetDomainname SetHostname SetHostname.__init__ SetHostname.execute __init__ execute",
        "rootless.steps.namespaces":
            "CloneNamespaces CloneNamespaces.__init__ CloneNamespaces.execute WriteIdMaps.__init__ "
            "WriteIdMaps.execute __init__ execute make_cgroup_namespace namespace_steps time_steps",
        "rootless.steps.places":
            "attach_node attach_rootfs check_place check_plain is_same_place make_directory make_file",
        "rootless.steps.process":
            "<genexpr> ChangeUser ChangeUser.__init__ ChangeUser.execute EnterWorkingDirectory "
            "EnterWorkingDirectory.__init__ EnterWorkingDirectory.execute Process Process.__init__ Process.steps "
            "Process.steps.<locals>.<genexpr> Process.through_proc Process.through_proc.<locals>.<genexpr> "
            "SetCapabilities SetCapabilities.__init__ SetCapabilities.execute SetNoNewPrivs SetNoNewPrivs.execute "
            "SetRlimit SetRlimit.__init__ SetRlimit.execute SetUmask SetUmask.__init__ SetUmask.execute User "
            "User.__init__ __init__ execute steps through_proc",
        "rootless.steps.program":
            "<dictcomp> <genexpr> <listcomp> Execute Execute.__init__ Execute.execute "
            "Execute.execute.<locals>.<listcomp> SetEnvironment SetEnvironment.__init__ SetEnvironment.execute "
            "SetEnvironment.execute.<locals>.<dictcomp> SetEnvironment.execute.<locals>.<genexpr> __init__ execute "
            "run_program",
        "rootless.steps.root":
            "AttachRootfs AttachRootfs.__init__ AttachRootfs.execute MakeRootReadonly MakeRootReadonly.execute "
            "MakeWorkingDirectory MakeWorkingDirectory.__init__ MakeWorkingDirectory.execute PivotRoot "
            "PivotRoot.__init__ PivotRoot.execute SetPropagation SetPropagation.__init__ SetPropagation.execute "
            "__init__ _exchange_roots execute open_dev_null",
        "rootless.userns.idmap": "_is_own _write_single _write_text write_map write_map.<locals>.<genexpr> write_maps",
    },
    "exec": {
        "rootless": "__getattr__",
        "rootless.__main__": "_configure_log _module _open_standard_streams _run launcher main",
        "rootless.cgroup": "_wanted open",
        "rootless.cgroup.driver":
            "Cgroup.__init__ Cgroup.directory_fd Cgroup.fd Cgroup.gone Cgroup.join_fd Cgroup.path Cgroup.read "
            "Cgroup.read.<locals>.<lambda>",
        "rootless.cgroup.freezer": "is_frozen",
        "rootless.cgroup.tree": "read_file retry_as_range_root",
        "rootless.cli.commands.exec": "main main.<locals>.<genexpr>",
        "rootless.cli.containers": "enter_state_root load name_of state_root",
        "rootless.cli.options":
            "<genexpr> <listcomp> Options.__init__ _read_flags _set _set_defaults parse parse_global",
        "rootless.cli.setting_flags": "<genexpr>",
        "rootless.config_node":
            "Node.__bool__ Node.__getitem__ Node.__init__ Node.boolean Node.choice Node.integer Node.items "
            "Node.items.<locals>.<listcomp> Node.required Node.string Node.strings Node.strings.<locals>.<listcomp>",
        "rootless.kernel.caps":
            "<dictcomp> _check_subset _read_set all_capabilities apply_bounding apply_capabilities grantable "
            "grantable.<locals>.<genexpr> last_cap names names.<locals>.<dictcomp> names.<locals>.<listcomp> "
            "read_capabilities read_capabilities.<locals>.<dictcomp>",
        "rootless.kernel.channel": "_await_message _receive_one pair receive send",
        "rootless.kernel.child": "_unblock clone",
        "rootless.kernel.files": "close_at_last write_at_once",
        "rootless.kernel.find_program": "search",
        "rootless.kernel.host":
            "Host.__init__ Host.all_capabilities Host.grantable Host.hard_limit Host.hard_limits Host.in_userns "
            "Host.is_root_here Host.is_root_on_host Host.uid Host.uid_map effective_capabilities fact.__get__ "
            "fact.__init__ read_id_map read_id_map.<locals>.<genexpr> read_id_map.<locals>.<listcomp> read_setgroups",
        "rootless.kernel.namespaces": "<dictcomp>",
        "rootless.kernel.paths": "normal_path",
        "rootless.kernel.proc": "alive open_proc own_identity start_time",
        "rootless.kernel.signals": "unblock",
        "rootless.kernel.sockets": "pair receive_fds send_fds",
        "rootless.kernel.syscalls":
            "_Char _Int _buffer capget capset clone3 close_range fstatfs_type join_session_keyring keyctl "
            "name_process prctl prlimit setgroups setns setresgid setresuid syscall syscall.<locals>.<genexpr>",
        "rootless.log": "configure debug debugging",
        "rootless.plan.process":
            "_check_mapped _check_mapped.<locals>.<genexpr> _read_env _read_scheduling _read_size _read_user "
            "compile_domain compile_process keeps_groups",
        "rootless.plan.seccomp": "compile_seccomp",
        "rootless.process.attributes": "die_with_parent join_keyring make_null_writable try_chdir",
        "rootless.process.console": "check_holder",
        "rootless.process.program":
            "_home_of check_cwd close_all_but forget_imports forget_imports.<locals>.<listcomp> look_up "
            "look_up.<locals>.<genexpr> passed_on passed_on.<locals>.<listcomp> prepare_seccomp restore_handlers "
            "restore_signals set_home set_home.<locals>.<genexpr> set_home.<locals>.<listcomp>",
        "rootless.process.rlimits": "<dictcomp> _check_start apply_rlimit check_rlimits read_rlimits",
        "rootless.runtime.container":
            "Container.__init__ Container.alive Container.cgroup Container.cgroup_path Container.cgroup_record "
            "Container.close Container.config Container.container_id Container.pid Container.status "
            "Container.watch_oom Container.watch_oom.<locals>.<genexpr> load",
        "rootless.runtime.escalation": "Escalation.__init__ Escalation.look Escalation.timeout",
        "rootless.runtime.exec":
            "ExecRequest.__init__ RunningContainer.__init__ RunningContainer._differs Spawned.__init__ Spawned.reap "
            "Task.__init__ Task.emulate Task.last _Gate.__init__ _Gate.wait _await_verdict _become "
            "_become.<locals>.<genexpr> _cgroup_fd _compile _derive _join _log_for_runcs_suite _require _task "
            "compile_process_of exec_in spawn spawn.<locals>.join",
        "rootless.runtime.foreground": "_loop _only_wake exit_code listen wait",
        "rootless.runtime.interpreter": "_execute_copy _mapped _mapped.<locals>.<genexpr> _sealed protect writable",
        "rootless.runtime.joiner": "await_child",
        "rootless.runtime.lock": "Lock.__init__ Lock._write_note Lock.give_up Lock.take",
        "rootless.runtime.state":
            "StateDir.__init__ StateDir.close StateDir.close_copy StateDir.has StateDir.open StateDir.read "
            "_check_owner _open_own check_id open_root",
        "rootless.runtime.verdict": "await_exec connect_agent",
        "rootless.startup.jsonlite": "loads",
        "rootless.startup.lean_os": "<dictcomp> fsdecode fsencode",
        "rootless.startup.lean_path": "abspath normpath",
        "rootless.steps": "Step.__init__ execute",
        "rootless.steps.context": "Becoming.__init__ Ending.__init__",
        "rootless.steps.process":
            "ChangeUser.__init__ ChangeUser.execute EnterWorkingDirectory.__init__ EnterWorkingDirectory.execute "
            "Process.__init__ Process.steps Process.steps.<locals>.<genexpr> Process.through_proc "
            "Process.through_proc.<locals>.<genexpr> SetCapabilities.__init__ SetCapabilities.execute "
            "SetNoNewPrivs.execute SetRlimit.__init__ SetRlimit.execute SetUmask.__init__ SetUmask.execute "
            "User.__init__",
        "rootless.steps.program":
            "Execute.__init__ Execute.execute Execute.execute.<locals>.<listcomp> SetEnvironment.__init__ "
            "SetEnvironment.execute SetEnvironment.execute.<locals>.<dictcomp> "
            "SetEnvironment.execute.<locals>.<genexpr> run_program",
    },
    "start": {
        "rootless": "__getattr__",
        "rootless.__main__": "_configure_log _module _open_standard_streams _run launcher main",
        "rootless.cgroup": "open",
        "rootless.cgroup.driver":
            "Cgroup.__init__ Cgroup.directory_fd Cgroup.path Cgroup.read Cgroup.read.<locals>.<lambda>",
        "rootless.cgroup.freezer": "is_frozen",
        "rootless.cgroup.tree": "read_file retry_as_range_root",
        "rootless.cli.commands.start": "main",
        "rootless.cli.containers": "enter_state_root load name_of state_root",
        "rootless.cli.options":
            "<genexpr> <listcomp> Options.__init__ _read_flags _set _set_defaults parse parse_global",
        "rootless.cli.setting_flags": "<genexpr>",
        "rootless.kernel.channel": "_receive_one receive send",
        "rootless.kernel.files": "close_at_last write_at_once",
        "rootless.kernel.proc": "alive own_identity start_time",
        "rootless.kernel.sockets": "address_at connect_at create receive_fds",
        "rootless.log": "configure debugging",
        "rootless.runtime.container":
            "Container.__enter__ Container.__exit__ Container.__init__ Container.alive Container.cgroup "
            "Container.cgroup_path Container.cgroup_record Container.close Container.hooks Container.pid "
            "Container.require Container.status load",
        "rootless.runtime.lock": "Lock.__init__ Lock._write_note Lock.give_up Lock.take",
        "rootless.runtime.start": "connect start start_or_end",
        "rootless.runtime.state":
            "StateDir.__init__ StateDir.close StateDir.close_copy StateDir.has StateDir.open StateDir.read "
            "StateDir.unlink _check_owner _open_own check_id open_root",
        "rootless.runtime.verdict": "await_exec connect_agent",
        "rootless.startup.jsonlite": "loads",
        "rootless.startup.lean_os": "<dictcomp> fsdecode",
        "rootless.startup.lean_path": "abspath normpath",
    },
    "state": {
        "rootless": "__getattr__",
        "rootless.__main__": "_configure_log _module _open_standard_streams _run launcher main",
        "rootless.cgroup": "open",
        "rootless.cgroup.driver":
            "Cgroup.__init__ Cgroup.directory_fd Cgroup.path Cgroup.read Cgroup.read.<locals>.<lambda>",
        "rootless.cgroup.freezer": "is_frozen",
        "rootless.cgroup.tree": "read_file retry_as_range_root",
        "rootless.cli.commands.state": "main owner_name",
        "rootless.cli.containers": "enter_state_root load name_of state_root",
        "rootless.cli.options":
            "<genexpr> <listcomp> Options.__init__ _read_flags _set _set_defaults parse parse_global",
        "rootless.cli.setting_flags": "<genexpr>",
        "rootless.kernel.files": "write_all write_out",
        "rootless.kernel.proc": "alive start_time",
        "rootless.log": "configure",
        "rootless.runtime.container":
            "Container.__init__ Container.alive Container.cgroup Container.cgroup_path Container.cgroup_record "
            "Container.container_id Container.pid Container.report Container.status load",
        "rootless.runtime.lock": "Lock.__init__",
        "rootless.runtime.state":
            "StateDir.__init__ StateDir.has StateDir.open StateDir.read _check_owner _open_own check_id open_root",
        "rootless.startup.jsonlite": "dumps dumps.<locals>.<listcomp> loads",
        "rootless.startup.lean_os": "<dictcomp> fsdecode",
        "rootless.startup.lean_path": "abspath normpath",
    },
    "kill": {
        "rootless": "__getattr__",
        "rootless.__main__": "_configure_log _module _open_standard_streams _run launcher main",
        "rootless.cgroup": "open",
        "rootless.cgroup.driver":
            "Cgroup.__init__ Cgroup.directory_fd Cgroup.path Cgroup.read Cgroup.read.<locals>.<lambda>",
        "rootless.cgroup.freezer": "is_frozen",
        "rootless.cgroup.tree": "read_file retry_as_range_root",
        "rootless.cli.commands.kill": "main",
        "rootless.cli.containers": "enter_state_root load name_of state_root",
        "rootless.cli.options":
            "<genexpr> <listcomp> Options.__init__ _read_flags _set _set_defaults parse parse_global",
        "rootless.cli.setting_flags": "<genexpr>",
        "rootless.kernel.proc": "alive open_pidfd start_time",
        "rootless.kernel.signals": "parse_signal",
        "rootless.log": "configure",
        "rootless.runtime.container":
            "Container.__init__ Container.alive Container.cgroup Container.cgroup_path Container.cgroup_record "
            "Container.pid Container.require Container.status load",
        "rootless.runtime.kill": "kill send",
        "rootless.runtime.lock": "Lock.__init__",
        "rootless.runtime.state":
            "StateDir.__init__ StateDir.has StateDir.open StateDir.read _check_owner _open_own check_id open_root",
        "rootless.startup.jsonlite": "loads",
        "rootless.startup.lean_os": "<dictcomp> fsdecode",
        "rootless.startup.lean_path": "abspath normpath",
    },
    "delete": {
        "rootless": "__getattr__",
        "rootless.__main__": "_configure_log _module _open_standard_streams _run launcher main",
        "rootless.cgroup": "_wanted open",
        "rootless.cgroup.driver":
            "<genexpr> <lambda> Cgroup Cgroup.__init__ Cgroup.close Cgroup.directory_fd Cgroup.gone Cgroup.kill "
            "Cgroup.path Cgroup.procs Cgroup.procs.<locals>.<lambda> Cgroup.read Cgroup.read.<locals>.<lambda> "
            "Cgroup.remove Cgroup.remove.<locals>.<genexpr> Cgroup.write Cgroup.write.<locals>.<lambda> __init__ "
            "close directory_fd gone kill path procs read remove write",
        "rootless.cgroup.freezer": "is_frozen",
        "rootless.cgroup.tree":
            "<listcomp> list_below list_below.<locals>.<listcomp> read_file remove_directories retry_as_range_root "
            "write_file",
        "rootless.cli.commands.delete": "main",
        "rootless.cli.containers": "enter_state_root name_of state_root",
        "rootless.cli.options":
            "<genexpr> <listcomp> Options Options.__init__ __init__ _read_flags _set _set_defaults parse "
            "parse_global",
        "rootless.cli.setting_flags": "<genexpr>",
        "rootless.kernel.files": "close_at_last write_at write_at_once",
        "rootless.kernel.proc": "alive open_pidfd own_identity start_time",
        "rootless.kernel.waiting": "milliseconds wait_for",
        "rootless.log": "configure debug",
        "rootless.runtime.container":
            "Container Container.__enter__ Container.__exit__ Container.__init__ Container.alive Container.cgroup "
            "Container.cgroup_path Container.cgroup_record Container.close Container.container_id Container.hooks "
            "Container.pid Container.report Container.status __enter__ __exit__ __init__ alive cgroup cgroup_path "
            "cgroup_record close container_id hooks pid report status",
        "rootless.runtime.delete":
            "<genexpr> _await_ending _poststop_hooks _undo_host_side_effects "
            "_undo_host_side_effects.<locals>.<genexpr> delete end load_by_force remove",
        "rootless.runtime.kill": "kill_all send",
        "rootless.runtime.lock":
            "Lock Lock.__init__ Lock._write_note Lock.give_up Lock.take_by_force __init__ _wait _write_note give_up "
            "take_by_force",
        "rootless.runtime.state":
            "StateDir StateDir.__init__ StateDir._empty StateDir._read_link StateDir.close StateDir.close_copy "
            "StateDir.has StateDir.noted StateDir.noted_init StateDir.open StateDir.read StateDir.remove "
            "StateDir.unlink __init__ _check_owner _empty _open_own _read_link check_id close close_copy has noted "
            "noted_init open open_root read remove unlink",
        "rootless.startup.jsonlite": "loads",
        "rootless.startup.lean_os": "<dictcomp> fsdecode",
        "rootless.startup.lean_path": "abspath normpath",
    },
    "launcher": {
        "oci.config": "default_config default_mounts",
        "rootless": "__getattr__",
        "rootless.api.clones":
            "_clone_init _clone_init.<locals>.live _make_cgroup clone_container is_pid1 read_call "
            "read_call.<locals>.<listcomp> receive_call",
        "rootless.api.launcher":
            "Launcher.__init__ Launcher._forget Launcher._reserve Launcher._run Launcher._take_request "
            "Launcher._tell_end Launcher._watch Launcher.end_all Launcher.serve _store_code main",
        "rootless.api.plans":
            "Compiled.__init__ Compiled.__init__.<locals>.<genexpr> Compiled._prepare Compiled.is_outdated "
            "Plans.__init__ Plans.find _needs_runtime _needs_runtime.<locals>.<genexpr> _read_root _takes_scope "
            "can_spawn can_spawn.<locals>.<genexpr> can_spawn.<locals>.<listcomp> "
            "can_spawn.<locals>.<listcomp>.<genexpr> compile_settings compile_settings.<locals>.<genexpr>",
        "rootless.api.running": "Own.__init__ Own.leave Running.__init__ Running.kill",
        "rootless.api.spares":
            "Spare.__init__ Spares.__init__ Spares._count Spares._is_outdated Spares._make Spares.end_old "
            "Spares.forget Spares.refill Spares.seconds_left Spares.seconds_left.<locals>.<genexpr> Spares.take "
            "find_places may_wait may_wait.<locals>.<genexpr>",
        "rootless.api.wire": "_send pack_end receive send",
        "rootless.cgroup": "_compile_resources _compile_resources.<locals>.<listcomp> _settle _wanted compile settle",
        "rootless.cgroup.place":
            "_below _delegated _delegated.<locals>.<genexpr> _directory _is_delegated _is_triple _scope can_be_made "
            "candidates candidates.<locals>.<genexpr> session usable",
        "rootless.config_node":
            "Node.__bool__ Node.__getitem__ Node.__init__ Node.boolean Node.choice Node.integer Node.items "
            "Node.items.<locals>.<listcomp> Node.members Node.required Node.string Node.string_map "
            "Node.string_map.<locals>.<dictcomp> Node.strings Node.strings.<locals>.<listcomp> Node.uint32",
        "rootless.errors": "RootlessError advice advice.<locals>.<genexpr> printable",
        "rootless.init.launched":
            "Call.__init__ Life.__init__ _become_program _become_root _become_root.<locals>.<genexpr> _become_user "
            "_become_user.<locals>.<genexpr> _become_user.<locals>.<listcomp> _die_with _find_program "
            "_find_program.<locals>.<genexpr> _look_up _look_up.<locals>.<genexpr> _look_up.<locals>.<listcomp> "
            "_place_passed _place_passed.<locals>.<genexpr> _spawn_program _spawn_program.<locals>.<genexpr> "
            "_spawn_program.<locals>.<listcomp> _take_streams main",
        "rootless.init.reaper": "<listcomp> _end_all _reap_ended block_all reap shut_out",
        "rootless.kernel.caps":
            "<dictcomp> _check_subset _read_set _union all_capabilities apply_bounding apply_capabilities grantable "
            "grantable.<locals>.<genexpr> guard keeps_out last_cap names names.<locals>.<dictcomp> "
            "names.<locals>.<listcomp> read_capabilities read_capabilities.<locals>.<dictcomp>",
        "rootless.kernel.cgroup_view": "View.__init__ own read",
        "rootless.kernel.channel": "send",
        "rootless.kernel.child": "_unblock clone",
        "rootless.kernel.devices": "host_path",
        "rootless.kernel.files": "write_at write_at_once",
        "rootless.kernel.find_program": "search",
        "rootless.kernel.host":
            "Host.__init__ Host.all_capabilities Host.cgroup_mount Host.cgroup_view Host.gid Host.grantable "
            "Host.hard_limit Host.hard_limits Host.in_userns Host.is_directory Host.is_root_here "
            "Host.is_root_on_host Host.own_cgroup Host.subgid Host.subgid.<locals>.<lambda> Host.subuid "
            "Host.subuid.<locals>.<lambda> Host.tries_cgroups Host.uid Host.uid_map Host.user_name _read _user_name "
            "default_id_map effective_capabilities fact.__get__ fact.__init__ read_cgroup_view read_id_map "
            "read_id_map.<locals>.<genexpr> read_id_map.<locals>.<listcomp> read_subids "
            "read_subids.<locals>.<listcomp>",
        "rootless.kernel.loopback": "loopback_up",
        "rootless.kernel.namespaces":
            "<dictcomp> Namespaces.__init__ Namespaces.has Namespaces.joins_one "
            "Namespaces.joins_one.<locals>.<genexpr> Namespaces.needs_joiner",
        "rootless.kernel.paths": "is_below normal_path tidy_path tidy_path.<locals>.<genexpr>",
        "rootless.kernel.proc": "open_proc",
        "rootless.kernel.sockets": "send_fds",
        "rootless.kernel.syscalls":
            "_Char _Int _buffer capget capset clone3 close_range fail find_in_root fsconfig fsmount fsopen "
            "fstatfs_type join_session_keyring keyctl mount mount_setattr move_mount name_process open_in_root "
            "open_tree openat2 pivot_root prctl prlimit seccomp_load setgroups sethostname setresgid setresuid "
            "syscall syscall.<locals>.<genexpr> umount2 unshare",
        "rootless.kernel.units": "parse_numbers read_numbers",
        "rootless.log": "debug debugging",
        "rootless.plan.call": "Call.__init__",
        "rootless.plan.change":
            "Change.__init__ Change.array Change.part Settings.__init__ _default copy copy.<locals>.<dictcomp> "
            "copy.<locals>.<listcomp>",
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
        "rootless.plan.network": "apply_network apply_network.<locals>.<listcomp>",
        "rootless.plan.paths": "_read_paths compile_paths compile_paths.<locals>.<dictcomp>",
        "rootless.plan.process":
            "_check_mapped _check_mapped.<locals>.<genexpr> _read_env _read_scheduling _read_size _read_user "
            "compile_domain compile_process keeps_groups",
        "rootless.plan.root": "compile_propagation compile_root",
        "rootless.plan.seccomp": "compile_seccomp",
        "rootless.plan.settings": "_apply_network _give_names _give_names.<locals>.<genexpr> apply_settings",
        "rootless.plan.sysctl": "compile_names compile_sysctl",
        "rootless.process.attributes":
            "become_root become_root.<locals>.<genexpr> die_with_parent join_keyring own_stdio try_chdir",
        "rootless.process.child_options":
            "ChildOptions.__init__ ChildOptions.apply ChildOptions.for_spawn ChildOptions.ignore_signals",
        "rootless.process.program":
            "_home_of check_cwd close_all_but forget_imports forget_imports.<locals>.<listcomp> look_up "
            "look_up.<locals>.<genexpr> restore_handlers restore_signals set_home set_home.<locals>.<genexpr> "
            "set_home.<locals>.<listcomp>",
        "rootless.process.rlimits": "<dictcomp> _check_start apply_rlimit check_rlimits read_rlimits",
        "rootless.process.seccomp": "prepare.<locals>.load",
        "rootless.runtime.interpreter": "_execute_copy _mapped _mapped.<locals>.<genexpr> _sealed protect writable",
        "rootless.startup.lean_os": "<dictcomp> fsdecode fsencode",
        "rootless.startup.lean_path": "_mode basename dirname exists isdir normpath",
        "rootless.steps": "Step.__init__ StepFailed execute",
        "rootless.steps.binds":
            "BindMount.execute _bind _bind_target _check_source _clone_tree _copy_link _open_source",
        "rootless.steps.builder":
            "RootBuilder.__init__ RootBuilder.apply_late_readonly RootBuilder.enter RootBuilder.make_private "
            "RootBuilder.new_pidns RootBuilder.own_netns RootBuilder.tty_group_mapped "
            "RootBuilder.tty_group_mapped.<locals>.<genexpr>",
        "rootless.steps.cgroup": "CreateCgroup.__init__",
        "rootless.steps.context": "Becoming.__init__ Init.__init__ Prepared.__init__",
        "rootless.steps.devices":
            "AttachDevice BindDevice.execute Device.__init__ Device.rdev Link.__init__ Link.execute "
            "MakeDevice.execute _bind_device",
        "rootless.steps.file_systems":
            "MountFileSystem.execute _copy_up_source _make_file_system _mount_by_name "
            "_mount_by_name.<locals>.<genexpr> _mount_file_system _set_context _with_mode "
            "_with_mode.<locals>.<genexpr> empty_tmpfs",
        "rootless.steps.masks":
            "MakePathReadonly.__init__ MakePathReadonly.execute MaskPath.__init__ MaskPath.execute _open_covered",
        "rootless.steps.mount_flags": "_set_attributes map_ids set_id_map set_mount_flags",
        "rootless.steps.mounts": "ATTRIBUTES Mount.__init__ MountOptions.__init__",
        "rootless.steps.names": "SetDomainname SetHostname.__init__ SetHostname.execute",
        "rootless.steps.namespaces": "make_cgroup_namespace",
        "rootless.steps.places":
            "attach_node attach_rootfs check_place check_plain is_same_place make_directory make_file",
        "rootless.steps.process":
            "ChangeUser.__init__ ChangeUser.execute EnterWorkingDirectory.__init__ EnterWorkingDirectory.execute "
            "Process.__init__ Process.steps Process.steps.<locals>.<genexpr> Process.through_proc "
            "Process.through_proc.<locals>.<genexpr> SetCapabilities.__init__ SetCapabilities.execute "
            "SetNoNewPrivs.execute SetRlimit.__init__ SetRlimit.execute SetUmask.__init__ SetUmask.execute "
            "User.__init__",
        "rootless.steps.root":
            "AttachEmptyRoot.execute AttachRootfs.__init__ AttachRootfs.execute MakeRootReadonly.execute "
            "MakeWorkingDirectory.__init__ MakeWorkingDirectory.execute PivotRoot.__init__ PivotRoot.execute "
            "SetPropagation.__init__ SetPropagation.execute _exchange_roots open_dev_null",
        "rootless.steps.upper":
            "_make_tmpfs _require_attributes mount_upper mount_upper.<locals>.<genexpr> "
            "mount_upper.<locals>.<listcomp>",
        "rootless.userns.idmap": "default_maps",
        "rootless.userns.mount_userns": "make_userns.<locals>.hold",
    },
}
