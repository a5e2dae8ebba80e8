-- Let through exactly the plan that waits.
if obj.status ~= nil and obj.status.pendingApproval ~= nil then
  if obj.metadata.annotations == nil then
    obj.metadata.annotations = {}
  end
  obj.metadata.annotations["s3gc.dev/approve"] = obj.status.pendingApproval.planDigest
end
return obj
