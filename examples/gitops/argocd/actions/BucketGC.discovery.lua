-- What a person can do with a BucketGC in Argo CD's interface. Annotations alone: the spec stays as Git has it.
local actions = {}
actions["run"] = { disabled = obj.status ~= nil and obj.status.active ~= nil }
actions["approve"] = { disabled = obj.status == nil or obj.status.pendingApproval == nil }
return actions
