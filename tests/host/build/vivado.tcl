# Stand-ins of the Vivado commands that a build uses, for tclsh: each checks its options, the names of properties and the form of
# their values against the tables here, which say what Vivado's own documents and public projects have (AMD UG835 "Vivado Design Suite
# Tcl Command Reference", UG908 for BITSTREAM properties; the IP's: ip/pcie_7x_0.xci of pcileech-fpga, CaptainDMA/100t484-1, which is
# of version 3.3 of the IP). A name that is not in the tables is an error, as it is for Vivado.
#
#   tclsh vivado.tcl SCRIPT      environment: FAULT, what goes wrong in the run; VERSION, of Vivado

set FAULT [expr {[info exists env(FAULT)] ? $env(FAULT) : ""}]
set VERSION [expr {[info exists env(VERSION)] ? $env(VERSION) : "2023.2"}]

set BOOL   {^(true|false)$}
set HEX    {^[0-9A-Fa-f]+$}
set SWITCH {^(YES|NO)$}

# Commands: {flags} {options with a value} least and most words besides.
array set COMMANDS {
    create_project        {{-in_memory -force} {-part} 0 2}
    create_ip             {{-force} {-vendor -library -name -version -module_name -dir} 0 0}
    get_ips               {{-quiet} {} 1 1}
    generate_target       {{-force} {} 2 2}
    synth_ip              {{-force -quiet} {} 1 1}
    read_verilog          {{-sv} {-library} 1 1}
    read_xdc              {{-unmanaged} {-ref -cells} 1 1}
    synth_design          {{} {-top -part -flatten_hierarchy} 0 0}
    opt_design            {{} {-directive} 0 0}
    place_design          {{} {-directive} 0 0}
    phys_opt_design       {{} {-directive} 0 0}
    route_design          {{} {-directive} 0 0}
    report_timing_summary {{} {-file -max_paths} 0 0}
    check_timing          {{-verbose} {-file} 0 0}
    report_utilization    {{-hierarchical} {-file} 0 0}
    write_bitstream       {{-force -bin_file} {} 1 1}
    write_cfgmem          {{-force} {-format -interface -size -loadbit -file} 0 0}
    create_clock          {{-add} {-name -period -waveform} 1 1}
    create_generated_clock {{-add -invert} {-name -source -divide_by -multiply_by -master_clock} 1 1}
    set_clock_groups      {{-asynchronous -physically_exclusive -logically_exclusive} {} 0 99}
    set_false_path        {{} {-from -to -through} 0 0}
    set_max_delay         {{-datapath_only} {-from -to -through} 1 1}
    set_input_delay       {{-max -min -rise -fall -clock_fall -add_delay} {-clock -reference_pin} 2 2}
    set_output_delay      {{-max -min -rise -fall -clock_fall -add_delay} {-clock -reference_pin} 2 2}
    get_timing_paths      {{-setup -hold} {-from -to -through -max_paths -nworst -delay_type} 0 0}
    get_cells             {{-quiet -hierarchical} {-filter} 0 1}
    get_pins              {{-quiet -hierarchical} {-filter} 0 1}
    get_ports             {{-quiet} {-filter} 0 1}
    get_clocks            {{-quiet -include_generated_clocks} {-of_objects} 0 1}
    set_property          {{-quiet} {-dict} 1 3}
    get_property          {{} {} 2 2}
    reset_property        {{-quiet} {} 2 2}
}

# Properties of the design, of ports and of cells, with the form of their values.
array set DESIGN [list \
    CFGBVS {^(VCCO|GND)$} CONFIG_VOLTAGE {^(1\.5|1\.8|2\.5|3\.3)$} CONFIG_MODE {^SPIx[124]$} \
    BITSTREAM.CONFIG.SPI_BUSWIDTH {^(1|2|4|NONE)$} BITSTREAM.CONFIG.SPI_FALL_EDGE $SWITCH \
    BITSTREAM.CONFIG.CONFIGRATE {^(3|6|9|12|16|22|26|33|40|50|66)$} \
    BITSTREAM.CONFIG.EXTMASTERCCLK_EN {^(disable|Div-[1248])$} \
    BITSTREAM.GENERAL.COMPRESS {^(TRUE|FALSE)$} BITSTREAM.CONFIG.USR_ACCESS {^(0x[0-9A-F]{8}|TIMESTAMP|NONE)$} \
    BITSTREAM.CONFIG.CONFIGFALLBACK {^(Enable|Disable)$} BITSTREAM.CONFIG.TIMER_CFG {^0x[0-9A-F]{8}$} \
    BITSTREAM.CONFIG.NEXT_CONFIG_ADDR {^0x[0-9A-F]{8}$}]
array set PORT [list \
    PACKAGE_PIN {^[A-Z]{1,2}[0-9]{1,2}$} PULLTYPE {^(PULLUP|PULLDOWN|KEEPER|NONE)$} SLEW {^(FAST|SLOW)$} IOB {^(TRUE|FALSE|AUTO)$} \
    IOSTANDARD {^(LVCMOS(15|18|25|33)|LVDS(_25)?|(DIFF_)?SSTL1(35|5))$}]
array set CELL [list \
    LOC {^(GT[PX]E2_CHANNEL_X0Y[0-9]+)$} MSIX_CAP_NEXTPTR {^8'h[0-9A-F]{2}$} MSIX_CAP_TABLE_OFFSET {^29'h[0-9A-F]{8}$} \
    MSIX_CAP_PBA_OFFSET {^29'h[0-9A-F]{8}$} CPL_TIMEOUT_RANGES_SUPPORTED {^4'h[0-9A-F]$} PM_CAP_NEXTPTR {^8'h[0-9A-F]{2}$} \
    PCIE_CAP_NEXTPTR {^8'h[0-9A-F]{2}$} MSIX_CAP_ON {^(TRUE|FALSE)$} EXT_CFG_CAP_PTR {^6'h[0-9A-F]{2}$}]

# Properties of the IP.
array set IP [list \
    mode_selection {^(Basic|Advanced)$} Device_Port_Type {^PCI_Express_Endpoint_device$} Xlnx_Ref_Board {^None$} \
    PCIe_Blk_Locn {^X[01]Y[0-2]$} Maximum_Link_Width {^X[1248]$} Link_Speed {^(2\.5|5\.0)_GT/s$} Trgt_Link_Speed {^4'h[12]$} \
    Interface_Width {^(64|128)_bit$} User_Clk_Freq {^(62\.5|125|250)$} Ref_Clk_Freq {^(100|125|250)_MHz$} \
    Bar0_Type {^(Memory|IO|N/A)$} Bar0_Scale {^(Kilobytes|Megabytes|Gigabytes)$} Bar0_Size {^[0-9]+$} \
    Max_Payload_Size {^(128|256|512|1024)_bytes$} Phantom_Functions {^No_function_number_bits_used$} \
    Perf_Level {^(High|Good)$} Legacy_Interrupt {^(NONE|INT[A-D])$} MSIx_Table_BIR {^BAR_[0-5]$} MSIx_PBA_BIR {^BAR_[0-5]$} \
    Trans_Buf_Pipeline {^None$} pipe_mode_sim {^None$}]
foreach name {Vendor_ID Device_ID Revision_ID Subsystem_Vendor_ID Subsystem_ID Class_Code_Base Class_Code_Sub Class_Code_Interface
        MSIx_Table_Size MSIx_Table_Offset MSIx_PBA_Offset PCI_CFG_Space_Addr} {
    set IP($name) $HEX
}
foreach name {Enable_Lane_Reversal Upconfigure_Capable Use_Class_Code_Lookup_Assistant Bar0_Enabled Bar0_64bit Bar0_Prefetchable
        Bar1_Enabled Bar2_Enabled Bar3_Enabled Bar4_Enabled Bar5_Enabled Expansion_Rom_Enabled Extended_Tag_Field
        Extended_Tag_Default Cpl_Finite Cpl_Timeout_Disable_Sup Buf_Opt_BMA IntX_Generation MSI_Enabled MSIx_Enabled D1_Support
        D2_Support D0_PME_Support D1_PME_Support D2_PME_Support D3hot_PME_Support D3cold_PME_Support No_Soft_Reset PCI_CFG_Space
        EXT_PCI_CFG_Space DSN_Enabled VC_Cap_Enabled VSEC_Enabled AER_Enabled RBAR_Enabled Receive_NP_Request pl_interface
        cfg_mgmt_if cfg_ctl_if cfg_status_if rcv_msg_if cfg_fc_if err_reporting_if en_ext_clk PCIe_Debug_Ports shared_logic_in_core
        en_ext_gt_common en_ext_ch_gt_drp en_ext_pipe_interface en_ext_startup en_transceiver_status_ports enable_jtag_dbg
        pcie_id_if} {
    set IP($name) $BOOL
}

# Where the packages have the transceivers: channel, then the pins rx_p rx_n tx_p tx_n.
array set PADS {
    fgg484,Y4 {B8 A8 B4 A4} fgg484,Y5 {D11 C11 D5 C5} fgg484,Y6 {B10 A10 B6 A6} fgg484,Y7 {D9 C9 D7 C7}
    fbg484,Y4 {B8 A8 B4 A4} fbg484,Y5 {D11 C11 D5 C5} fbg484,Y6 {B10 A10 B6 A6} fbg484,Y7 {D9 C9 D7 C7}
    fbg676,Y4 {B11 A11 B7 A7} fbg676,Y5 {D14 C14 D8 C8} fbg676,Y6 {B13 A13 B9 A9} fbg676,Y7 {D12 C12 D10 C10}
    ffg676,Y4 {G4 G3 F2 F1} ffg676,Y5 {E4 E3 D2 D1} ffg676,Y6 {C4 C3 B2 B1} ffg676,Y7 {B6 B5 A4 A3}
    ffg900,Y4 {T6 T5 P2 P1} ffg900,Y5 {R4 R3 N4 N3} ffg900,Y6 {P6 P5 M2 M1} ffg900,Y7 {M6 M5 L4 L3}
}

proc refuse {text} {
    puts stderr "ERROR: $text"
    exit 1
}

# {options as a dictionary} {other words}
proc arguments {command words} {
    lassign $::COMMANDS($command) flags options least most
    set found [dict create]
    set rest [list]
    for {set at 0} {$at < [llength $words]} {incr at} {
        set word [lindex $words $at]
        if {$command eq "set_clock_groups" && $word eq "-group"} {
            incr at
            if {[lindex $words $at] eq ""} { refuse "set_clock_groups: an empty group" }
            lappend rest [lindex $words $at]
        } elseif {$word in $flags} {
            dict set found $word 1
        } elseif {$word in $options} {
            dict set found $word [lindex $words [incr at]]
        } elseif {[string match -* $word] && ![string is double -strict $word]} {
            refuse "\[Common 17-170\] Unknown option '$word' of $command"
        } else {
            lappend rest $word
        }
    }
    if {[llength $rest] < $least || [llength $rest] > $most} {
        refuse "\[Common 17-163\] $command: wrong number of arguments: $rest"
    }
    return [list $found $rest]
}

# The design: cells with what they are, made by synth_design; what has been set; ports and clocks.
set made_cells [dict create]
set made_values [dict create]
set made_clocks [list]
set made_files [list]
set made_done [list]

proc step {name} { lappend ::made_done $name; if {$::FAULT eq "fails in $name"} { refuse "\[Fault 1-1\] $name: it did" } }

proc create_project {args} {
    lassign [arguments create_project $args] options
    set ::made_part [dict get $options -part]
    if {![regexp {^xc7(a75|a100|a200|k325)t(f[bgf]g\d{3})-[123]$} $::made_part -> fpga ::made_package]} { refuse "no part $::made_part" }
}
proc create_ip {args} {
    lassign [arguments create_ip $args] options
    foreach {option value} {-vendor xilinx.com -library ip -name pcie_7x -version 3.3} {
        if {[dict get $options $option] ne $value} { refuse "\[Coretcl 2-1133\] IP not found: $option [dict get $options $option]" }
    }
    set ::made_ip [dict get $options -module_name]
    array set ::made_now {MSIx_Enabled false PCI_CFG_Space false}
}
proc get_ips {name} { if {$name ne $::made_ip} { refuse "no IP $name" }; return ip:$name }
proc generate_target {args} { arguments generate_target $args; step generate_target }
proc synth_ip {args} { arguments synth_ip $args; step synth_ip }
proc read_verilog {name} { if {![file exists $name]} { refuse "no file $name" }; lappend ::made_files $name }
proc read_xdc {name} { uplevel #0 [list source $name] }
proc version {word} { if {$word ne "-short"} { refuse "version $word" }; return $::VERSION }

proc synth_design {args} {
    lassign [arguments synth_design $args] options
    if {[dict get $options -part] ne $::made_part} { refuse "another part" }
    if {"synth_ip" ni $::made_done} { refuse "the IP has not been synthesised" }
    step synth_design
    set gt [expr {[string match xc7a* $::made_part] ? "gtp" : "gtx"}]
    set upper [string toupper $gt]
    set at pcie/inst/inst
    set lanes [string range $::made_now(Maximum_Link_Width) 1 end]
    for {set lane 0} {$lane < $lanes} {incr lane} {
        # The order in which the IP places them.
        add $at/gt_top_i/pipe_wrapper_i/pipe_lane\[$lane\].gt_wrapper_i/${gt}_channel.${gt}e2_channel_i ${upper}E2_CHANNEL \
            ${upper}E2_CHANNEL_X0Y[expr {7 - $lane}]
    }
    if {$gt eq "gtp"} { add $at/gt_top_i/gt_common_i/gtp_common.gtpe2_common_i GTPE2_COMMON GTPE2_COMMON_X0Y1 }
    if {$::FAULT eq "no block"} { return }
    add $at/pcie_top_i/pcie_7x_i/pcie_block_i PCIE_2_1 PCIE_X0Y0
    add $at/pcie_top_i/pcie_7x_i/pcie_bram_top/pcie_brams_rx/brams\[0\].ram/use_tdp.ramb36/bram36_tdp_bl RAMB36E1 RAMB36_X1Y45
    foreach {name value} {MSIX_CAP_NEXTPTR 8'h00 MSIX_CAP_TABLE_OFFSET 29'h00000000 MSIX_CAP_PBA_OFFSET 29'h00000000
            CPL_TIMEOUT_RANGES_SUPPORTED 4'h2 PM_CAP_NEXTPTR 8'h60 PCIE_CAP_NEXTPTR 8'h9C} {
        dict set ::made_values cell:$at/pcie_top_i/pcie_7x_i/pcie_block_i $name $value
    }
    dict set ::made_values cell:$at/pcie_top_i/pcie_7x_i/pcie_block_i MSIX_CAP_ON [string toupper $::made_now(MSIx_Enabled)]
    dict set ::made_values cell:$at/pcie_top_i/pcie_7x_i/pcie_block_i EXT_CFG_CAP_PTR \
        [expr {$::made_now(PCI_CFG_Space) ? "6'h$::made_now(PCI_CFG_Space_Addr)" : "6'h3F"}]
}
proc add {name ref loc} { dict set ::made_cells $name $ref; dict set ::made_values cell:$name LOC $loc }

foreach name {opt_design phys_opt_design} { proc $name {args} [format {arguments %1$s $args; step %1$s} $name] }
proc place_design {args} {
    arguments place_design $args
    step place_design
    set used [dict create]
    dict for {cell ref} $::made_cells {
        if {![string match *_CHANNEL $ref]} { continue }
        set loc [dict get $::made_values cell:$cell LOC]
        if {$loc eq "" || [dict exists $used $loc]} { refuse "\[Place 30-1\] no place for $cell: '$loc'" }
        dict set used $loc $cell
    }
}
proc route_design {args} { arguments route_design $args; step route_design }

# What is found: cells by NAME and REF_NAME; pins by name only, of a few cells. Brackets in a pattern stand for themselves.
proc matches {filter name ref} {
    foreach term [split [string map {&& \x00} $filter] \x00] {
        set term [string trim $term]
        if {[regexp {^NAME =~ (\S+)$} $term -> pattern]} {
            if {![string match [string map {[ \\[ ] \\]} $pattern] $name]} { return 0 }
        } elseif {[regexp {^REF_NAME == (\S+)$} $term -> wanted]} {
            if {$ref ne $wanted} { return 0 }
        } else {
            refuse "\[Common 17-161\] a filter that is none: $filter"
        }
    }
    return 1
}
proc get_cells {args} {
    lassign [arguments get_cells $args] options
    set found [list]
    dict for {cell ref} $::made_cells {
        if {[matches [dict get $options -filter] $cell $ref]} { lappend found cell:$cell }
    }
    return $found
}
proc get_pins {args} {
    lassign [arguments get_pins $args] options
    set found [list]
    set pins [list card/clocks/pclk_mux/I0 card/clocks/pclk_mux/I1 card/clocks/pclk_mux/O card/clocks/pclk_mux/S0 \
        card/clocks/pclk_mux/S1 card/link_tap/TCK card/nic/buffers/txc/C card/gtx_clk/C]
    dict for {cell ref} $::made_cells { if {[string match *_CHANNEL $ref]} { lappend pins $cell/TXOUTCLK } }
    foreach pin $pins { if {[matches [dict get $options -filter] $pin ""]} { lappend found pin:$pin } }
    if {![llength $found]} { refuse "\[Vivado 12-180\] no pins match [dict get $options -filter]" }
    return $found
}
proc verilog {} {
    set channel [open [lindex $::made_files 0]]
    set text [read $channel]
    close $channel
    return $text
}
proc get_ports {args} {
    lassign [arguments get_ports $args] options names
    set verilog [verilog]
    set found [list]
    foreach name [lindex $names 0] {
        regexp {^([^\[]*)(\[(\d+)\])?$} $name -> stem ignored bit
        if {![regexp "\\m(input|output|inout) (\\\[(\\d+):0\\\] )?$stem\\M" $verilog -> direction range high]} {
            refuse "\[Vivado 12-584\] no ports match $name"
        }
        if {$bit ne "" && ($high eq "" || $bit > $high)} { refuse "\[Vivado 12-584\] no ports match $name" }
        lappend found port:$name
    }
    return $found
}
proc get_clocks {args} {
    lassign [arguments get_clocks $args] options names
    if {[dict exists $options -of_objects]} { return clock:of:[lindex [dict get $options -of_objects] 0] }
    foreach name [lindex $names 0] { if {$name ni $::made_clocks} { refuse "\[Vivado 12-4739\] no clocks match $name" } }
    return [lmap name [lindex $names 0] {set name clock:$name}]
}
proc current_design {} { return design }

proc create_clock {args} {
    lassign [arguments create_clock $args] options
    if {![string is double -strict [dict get $options -period]]} { refuse "create_clock: no period" }
    lappend ::made_clocks [dict get $options -name]
}
proc create_generated_clock {args} {
    lassign [arguments create_generated_clock $args] options
    lappend ::made_clocks [dict get $options -name]
}
# One group alone is asynchronous to all other clocks (UG835, set_clock_groups).
proc set_clock_groups {args} { lassign [arguments set_clock_groups $args] o groups; if {[llength $groups] < 1} { refuse groups } }
# Between clocks that are not related only the data path can be bounded (UG903); the clocks are needed (UG835, set_max_delay).
proc set_max_delay {args} {
    lassign [arguments set_max_delay $args] options ns
    if {![dict exists $options -datapath_only]} { refuse "set_max_delay: without -datapath_only" }
    foreach option {-from -to} {
        if {![dict exists $options $option] || [dict get $options $option] eq ""} { refuse "set_max_delay: no $option" }
    }
    if {![string is double -strict $ns] || $ns <= 0} { refuse "set_max_delay: '$ns' is no delay" }
}
proc set_false_path {args} {
    lassign [arguments set_false_path $args] options
    foreach {option kind} {-from input -to output} {
        if {[dict exists $options $option]} { foreach port [dict get $options $option] { dict unset ::made_delays $port } }
    }
}

# Delays at pads: {port: {max or min, and the edge of the clock: ns}}. Without -add_delay others of the port go (UG835). A pad
# whose delay is given for one edge only, or for max or min only, is not timed.
set made_delays [dict create]
proc io_delay {command way words} {
    lassign [arguments $command $words] options rest
    lassign $rest ns ports
    if {![string is double -strict $ns]} { refuse "\[Common 17-161\] '$ns' is no delay" }
    if {[dict get $options -clock] ni $::made_clocks} { refuse "\[Vivado 12-4739\] no clocks match [dict get $options -clock]" }
    if {[dict exists $options -max] == [dict exists $options -min]} { refuse "$command: -max or -min" }
    set limit [expr {[dict exists $options -max] ? "max" : "min"}]
    set edge [expr {[dict exists $options -clock_fall] ? "fall" : "rise"}]
    foreach port $ports {
        if {![regexp "\\m$way \[^;\]*\\m[regsub {\[.*} [string range $port 5 end] {}];" [verilog]]} {
            refuse "\[Constraints 18-512\] $command: $port is no $way"
        }
        if {![dict exists $options -add_delay]} {
            foreach other {rise fall} { if {[dict exists $::made_delays $port]} { dict unset ::made_delays $port $limit,$other } }
        }
        dict set ::made_delays $port $limit,$edge $ns
    }
}
proc set_input_delay {args} { io_delay set_input_delay input $args }
proc set_output_delay {args} { io_delay set_output_delay output $args }

# The worst path at pads whose clock is in the middle of its data, at both edges (RGMII), or the card's at the rising edge (GMII,
# where the PHY's is at their end); the FPGA itself costs nothing here.
proc get_timing_paths {args} {
    lassign [arguments get_timing_paths $args] options
    set hold [dict exists $options -hold]
    set worst ""
    set gmii [expr {"eth_gtx_clk" in $::made_clocks}]
    foreach {option half} [expr {$gmii ? {-from 8 -to 4} : {-from 4 -to 2}}] {
        if {![dict exists $options $option]} { continue }
        foreach port [dict get $options $option] {
            if {![dict exists $::made_delays $port] || [dict size [dict get $::made_delays $port]] != ($gmii ? 2 : 4)} { return [list] }
            dict for {what ns} [dict get $::made_delays $port] {
                if {[string match min,* $what] != $hold} { continue }
                set slack [expr {$hold ? ($option eq "-from" ? $ns : $half + $ns) : $half - $ns}]
                if {$worst eq "" || $slack < $worst} { set worst $slack }
            }
        }
    }
    if {$::FAULT eq "pads [expr {$hold ? "hold" : "setup"}]"} { set worst -0.21 }
    if {$::FAULT eq "pads untimed"} { set worst inf }
    return [list path:$worst]
}

proc checked {object name value} {
    set kind [lindex [split $object :] 0]
    set table [dict get {design DESIGN port PORT cell CELL ip IP} $kind]
    set plain [expr {$kind eq "ip" ? [string range $name 7 end] : $name}]
    if {$kind eq "ip" && ![string match CONFIG.* $name] || ![info exists ::${table}($plain)]} {
        refuse "\[Common 17-54\] The object '$object' does not have a property '$name'."
    }
    if {![regexp [set ::${table}($plain)] $value]} {
        refuse "\[Common 17-58\] '$value' is not a valid value for property '$name' of '$object'"
    }
    return $plain
}
proc free {object place} {
    dict for {other properties} $::made_values {
        if {$other ne $object && [dict exists $properties LOC] && [dict get $properties LOC] eq $place} {
            refuse "\[Vivado 12-2285\] Cannot set LOC property of '$object': $place is taken by '$other'"
        }
    }
}
proc set_property {args} {
    lassign [arguments set_property $args] options words
    if {[dict exists $options -dict]} {
        set settings [dict get $options -dict]
    } else {
        set settings [lrange $words 0 1]
        set words [lrange $words 2 end]
    }
    set objects [lindex $words 0]
    if {![llength $objects]} { refuse "\[Common 17-55\] 'set_property' expects at least one object." }
    foreach object $objects {
        foreach {name value} $settings {
            set plain [checked $object $name $value]
            if {[string match ip:* $object]} {
                if {$::FAULT eq "refuses $plain"} {
                    refuse "\[IP_Flow 19-3461\] Value '$value' is out of the range for parameter '$plain'."
                }
                set ::made_now($plain) $value
                if {$::FAULT eq "changes $plain"} { set ::made_now($plain) other }
            } else {
                if {$name eq "LOC"} { free $object $value }
                dict set ::made_values $object $name $value
            }
        }
    }
}
proc reset_property {name objects} {
    if {![llength $objects]} { refuse "\[Common 17-55\] 'reset_property' expects at least one object." }
    foreach object $objects { dict set ::made_values $object $name "" }
}
proc get_property {name object} {
    if {[llength $object] != 1} { refuse "\[Common 17-55\] 'get_property' expects one object: $object" }
    set object [lindex $object 0]
    if {[string match path:* $object] && $name eq "SLACK"} { return [format %.3f [string range $object 5 end]] }
    if {[string match ip:* $object]} {
        set plain [string range $name 7 end]
        if {![info exists ::IP($plain)]} { refuse "\[Common 17-54\] The object '$object' does not have a property '$name'." }
        return $::made_now($plain)
    }
    if {$name eq "PACKAGE_PIN" && [regexp {^port:pcie_([rt]x_[pn])(\[(\d+)\])?$} $object -> pair - lane]} {
        if {$lane eq ""} { set lane 0 }
        # The pads follow the transceiver.
        dict for {cell ref} $::made_cells {
            if {[string match *pipe_lane\\\[$lane\\\]* $cell] && [regexp {Y\d+$} [dict get $::made_values cell:$cell LOC] place]} {
                return [lindex $::PADS($::made_package,$place) [lsearch {rx_p rx_n tx_p tx_n} $pair]]
            }
        }
        return ""
    }
    if {$::FAULT eq "forgets $name"} { return 8'h00 }
    if {$::FAULT eq "unplaced" && $name eq "LOC"} { return "" }
    return [dict get $::made_values $object $name]
}

proc report {name text} { set channel [open $name w]; puts -nonewline $channel $text; close $channel }
proc report_timing_summary {args} {
    lassign [arguments report_timing_summary $args] options
    set wns [expr {$::FAULT eq "negative slack" ? -0.123 : 0.456}]
    set whs [expr {$::FAULT eq "negative hold" ? -0.011 : 0.031}]
    report [dict get $options -file] "Copyright\n| Design Timing Summary\n| ---------------------\n\n[string trimright [format {
    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)  THS Failing Endpoints  THS Total Endpoints     WPWS(ns)     TPWS(ns)  TPWS Failing Endpoints  TPWS Total Endpoints  
    -------      -------  ---------------------  -------------------      -------      -------  ---------------------  -------------------     --------     --------  ----------------------  --------------------  
    %7s        0.000                      0                54321      %7s        0.000                      0                54321        1.100        0.000                       0                 23456  } $wns $whs] ]\n\n\n"
}
proc check_timing {args} {
    lassign [arguments check_timing $args] options
    set clocks [expr {$::FAULT eq "no clock" ? 12 : 0}]
    set inside [expr {$::FAULT eq "unconstrained" ? 7 : 0}]
    report [dict get $options -file] "check_timing report\n\n1. checking no_clock ($clocks)\n------------------------\n There are\
        $clocks register/latch pins with no clock.\n\n2. checking constant_clock (0)\n\n4. checking\
        unconstrained_internal_endpoints ($inside)\n\n8. checking loops (0)\n"
}
proc report_utilization {args} {
    lassign [arguments report_utilization $args] options
    report [dict get $options -file] {
1. Slice Logic
--------------

+----------------------------+-------+-------+------------+-----------+-------+
|          Site Type         |  Used | Fixed | Prohibited | Available | Util% |
+----------------------------+-------+-------+------------+-----------+-------+
| Slice LUTs                 | 25360 |     0 |          0 |     63400 | 40.00 |
|   LUT as Logic             | 24000 |     0 |          0 |     63400 | 37.85 |
| Slice Registers            | 20000 |     0 |          0 |    126800 | 15.77 |
+----------------------------+-------+-------+------------+-----------+-------+

3. Memory
---------

+-------------------+------+-------+------------+-----------+-------+
|     Site Type     | Used | Fixed | Prohibited | Available | Util% |
+-------------------+------+-------+------------+-----------+-------+
| Block RAM Tile    | 40.5 |     0 |          0 |       135 | 30.00 |
|   RAMB36/FIFO*    |   40 |     8 |          0 |       135 | 29.63 |
+-------------------+------+-------+------------+-----------+-------+
}
}
proc write_bitstream {args} {
    lassign [arguments write_bitstream $args] options names
    if {$::FAULT eq "no bitstream"} { return }
    report [lindex $names 0] "bitstream of [lindex $names 0]"
}
proc write_cfgmem {args} {
    lassign [arguments write_cfgmem $args] options
    foreach {option form} {-format {^bin$} -interface {^spix4$} -size {^(16|32)$} -loadbit {^up 0x[0-9A-F]{8} \S+\.bit$}} {
        if {![regexp $form [dict get $options $option]]} { refuse "write_cfgmem $option [dict get $options $option]" }
    }
    if {$::FAULT eq "no bitstream"} { return }
    if {![file exists [lindex [dict get $options -loadbit] 2]]} { refuse "no file [dict get $options -loadbit]" }
    report [dict get $options -file] [string repeat x [expr {$::FAULT eq "large" ? 0x900000 : 2000}]]
}

proc unknown {args} { refuse "\[Common 17-69\] invalid command name \"[lindex $args 0]\"" }

set chosen [lindex $argv 0]
if {[catch {source $chosen} message]} {
    puts stderr $message
    exit 1
}
