"""LC dispatch: one file for each built-in policy, and the compiled step that all of them go through.

    arrivals, snapshot -> columns -> price every node -> a cluster's offer -> choose -> count in -> plan

`built_in` lists the policies, `dispatch` has the step, `rule` makes a plan of it; `columns` and `expected_time` are what a policy's file
is written in.
"""
